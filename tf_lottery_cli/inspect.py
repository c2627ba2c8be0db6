"""`tf-lottery inspect`: what a TFLite file stores, and how."""

import json

from tf_lottery_cli.parser import add_command
from tf_lottery_cli.terminal import import_keras

DESCRIPTION = """\
Lists the constants of a TFLite file, of any converter: which operator reads each, its shape and
type, whether it is stored dense or sparse, its sparsity and its bytes. With --arm it also says,
operator by operator, whether XNNPACK's sparse kernels (ARM, WebAssembly) can run the network and,
if not, what to change. Use it to see where the bytes of a file are and why zeros do not save time.

  tf-lottery inspect model.tflite
  tf-lottery inspect model.tflite --arm"""


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "inspect", run, "list what a TFLite file stores, and how", DESCRIPTION
    )
    parser.add_argument("file", metavar="FILE", help="a .tflite file")
    parser.add_argument(
        "--arm", action="store_true", help="say whether ARM's sparse kernels can run it"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If the file is not a TFLite file.
        OSError: If it cannot be read.
    """
    import_keras()
    from rich.console import Console

    from tf_lottery.export import inspect_tflite, sparse_inference_report

    reports = {"file": inspect_tflite(args.file)}
    if args.arm:
        reports["arm"] = sparse_inference_report(args.file)
    if args.json:
        arm = {"arm": reports["arm"].to_dict()} if args.arm else {}
        print(json.dumps({**reports["file"].to_dict(), **arm}, indent=1))
    else:
        Console().print(*reports.values())
