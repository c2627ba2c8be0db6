"""The command `tf-lottery`.

It is a separate package, since importing `tf_lottery` imports Keras. Every subcommand is a module
with `add_parser`, which is fast, and `run`, which imports Keras. So help and errors in arguments
are printed without delay.
"""

import argparse
import importlib.util
import os
import pathlib
import runpy
import sys

from tf_lottery_cli import (
    compare,
    compress,
    demo,
    export,
    inspect,
    prune,
    reproduce,
    retrain,
    runs,
    stability,
    summary,
    sweep,
    train,
)
from tf_lottery_cli.parser import Parser
from tf_lottery_cli.terminal import one_line

DESCRIPTION = """\
Sparse neural networks in Keras 3: find lottery tickets, prune while training, look into the
result and write it to a TFLite file, which is run and compared with Keras first.

Start with `tf-lottery demo`, which needs no data and no network. `tf-lottery COMMAND -h`
explains a command and gives an example."""


def main(argv=None):
    """Runs the command.

    Args:
        argv: List of strings, the arguments. Defaults to those of the process.

    Returns:
        Integer, the exit code: 0, 1 if the reader of the output has gone, 2 after an error, 130
        after Ctrl-C.

    Raises:
        SystemExit: After `-h` and `--version` (code 0) and for arguments that cannot be
            parsed (code 2).

    Example:

    >>> ticket.save("ticket.npz")
    >>> main(["summary", "ticket.npz"])
    net: 90.00% of 100 weights pruned, 112 parameters in all
    ...
    0
    """
    args = _make_parser().parse_args(argv)
    try:
        args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("tf-lottery: interrupted", args.when_interrupted, file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"tf-lottery {args.command}: error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


class _Version(argparse.Action):
    """Prints the version, without importing the library."""

    def __init__(self, option_strings, dest, help=None):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser, namespace, values, option_string=None):
        # Importing `tf_lottery` would import Keras.
        folder = pathlib.Path(importlib.util.find_spec("tf_lottery").origin).parent
        version = runpy.run_path(str(folder / "_version.py"))["__version__"]
        print(f"tf-lottery {version}")
        parser.exit()


def _make_parser():
    parser = Parser(prog="tf-lottery", description=DESCRIPTION)
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (
        demo,
        compare,
        train,
        retrain,
        sweep,
        runs,
        compress,
        prune,
        stability,
        reproduce,
        summary,
        export,
        inspect,
    ):
        module.add_parser(commands)
    return parser
