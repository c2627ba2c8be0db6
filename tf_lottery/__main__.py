"""Runs the command `tf-lottery` for `python -m tf_lottery`.

Python first imports the library, and with it Keras. `tf-lottery` and `python -m tf_lottery_cli`
do not import them for `-h` and `--version`, and are therefore faster.
"""

import sys

from tf_lottery_cli import main

if __name__ == "__main__":
    sys.exit(main())
