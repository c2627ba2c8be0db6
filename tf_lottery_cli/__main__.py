"""Runs the command `tf-lottery`."""

import sys

from tf_lottery_cli import main

if __name__ == "__main__":
    sys.exit(main())
