"""`tf-lottery export`: from a Keras file to a TFLite file."""

import json
import pathlib

from tf_lottery_cli.parser import add_command, positive, whole
from tf_lottery_cli.terminal import import_keras

DESCRIPTION = """\
Writes a .keras model, masked or stripped, to a TFLite file without its zeros, runs the file,
compares it with Keras and times it; a file that does not load or disagrees is not written.
Use it when training is done. The sparse file is smaller; it is faster only where the device's
kernels skip zeros, so look at the milliseconds of both files. Needs Keras on TensorFlow.

  tf-lottery export runs/train/model.keras -o model.tflite"""


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "export", run, "write a model to a TFLite file that was run", DESCRIPTION
    )
    parser.add_argument("file", metavar="FILE", help="a .keras model")
    parser.add_argument(
        "-o", "--out", metavar="OUT", help="the file to write (default: FILE with .tflite)"
    )
    parser.add_argument(
        "--storage",
        choices=("sparse", "dense"),
        default="sparse",
        help="leave the zeros out (sparse, default) or store them (dense)",
    )
    parser.add_argument(
        "--tolerance",
        type=positive,
        metavar="T",
        default=1e-4,
        help="largest difference from Keras, as a fraction of the largest output (default: 1e-4)",
    )
    parser.add_argument(
        "--runs",
        type=whole(1),
        default=50,
        metavar="N",
        help="runs to time each file (default: 50)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If the model is not fit for export or would be overwritten.
        OSError: If a file cannot be read or written.
        RuntimeError: If the file would be wrong or the backend is not TensorFlow.
    """
    import_keras()
    from tf_lottery_cli import inputs

    source = pathlib.Path(args.file)
    target = source.with_suffix(".tflite") if args.out is None else pathlib.Path(args.out)
    model = inputs.load_model(source)
    if target.exists() and target.samefile(source):
        raise ValueError(f"-o must not be the model itself. Received: {str(target)!r}")
    from rich.console import Console

    from tf_lottery.export import export_tflite

    report = export_tflite(
        model, target, storage=args.storage, tolerance=args.tolerance, runs=args.runs
    )
    if args.json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        Console().print(report)
