"""Runs the command `tf-lottery`, by the name of the library.

Python imports the library, and with it Keras, before it comes here. `tf-lottery` and
`python -m tf_lottery_cli` answer `-h` and `--version` faster.
"""

import sys

from tf_lottery_cli import main

if __name__ == "__main__":
    sys.exit(main())
