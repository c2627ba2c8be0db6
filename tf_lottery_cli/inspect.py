"""`tf-lottery inspect`: what a TFLite file stores, and how."""

import json

from tf_lottery_cli.files import existing_file
from tf_lottery_cli.parser import add_command
from tf_lottery_cli.terminal import import_keras

DESCRIPTION = """\
Sums up what a TFLite file stores, of any converter: bytes, weights, zeros; then its largest
weights, which operator reads each, its shape and type, and whether it is stored dense or sparse.
With --arm it says first whether XNNPACK's sparse kernels (ARM, WebAssembly) can run the network
and, if not, why and what to change. Use it to see where the bytes of a file are and why zeros do
not save time.

  tf-lottery inspect model.tflite
  tf-lottery inspect model.tflite --arm -v"""


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "inspect", run, "list what a TFLite file stores, and how", DESCRIPTION
    )
    parser.add_argument("file", type=existing_file, metavar="FILE", help="a .tflite file")
    parser.add_argument(
        "--arm", action="store_true", help="say whether ARM's sparse kernels can run it"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="list all tensors, and operators with --arm"
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

    file = inspect_tflite(args.file)
    arm = sparse_inference_report(args.file) if args.arm else None
    if args.json:
        verdict = {} if arm is None else {"arm": arm.to_dict()}
        print(json.dumps({**file.to_dict(), **verdict}, indent=1))
        return
    console = Console(markup=False)
    if arm is not None:
        console.print(arm.to_table(args.verbose), highlight=False)
    console.print(file.to_table(args.verbose))
