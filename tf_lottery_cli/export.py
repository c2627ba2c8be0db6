"""`tf-lottery export`: from a Keras file to a TFLite file."""

import json
import pathlib

from tf_lottery_cli.parser import (
    GOALS,
    PRECISIONS,
    STORAGES,
    add_command,
    fraction,
    positive,
    whole,
)
from tf_lottery_cli.terminal import import_keras

DESCRIPTION = """\
Writes a .keras model, masked or stripped, to a TFLite file without its zeros, runs the file,
compares it with Keras and times it; a file that does not load or disagrees is not written.
Use it when training is done. The sparse file is smaller; it is faster only where kernels skip
zeros: with --pattern 4x1 in training and one example at a time, or on ARM (see `tf-lottery
inspect --arm`). Needs Keras on TensorFlow.

  tf-lottery export runs/train/model.keras -o model.tflite
  tf-lottery export model.keras --quantize weight_int8 --verify-data examples.npy

To see what a sparsity would bring before you train for it:

  tf-lottery export model.keras -o try.tflite --sparsity 0.9 --pattern 4x1 --optimize-for latency"""


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
    _add_form_options(parser.add_argument_group("form of the file"))
    _add_change_options(parser.add_argument_group("changes to the model before"))
    _add_check_options(parser.add_argument_group("checks"))
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_form_options(group):
    group.add_argument(
        "--quantize",
        choices=PRECISIONS,
        help="fewer bits: for weights only (float16, weight_int8), also in products "
        "(dynamic_int8), or throughout (int8, needs --representative-data); default: float32",
    )
    group.add_argument(
        "--storage",
        choices=STORAGES,
        default="auto",
        help="omit the zeros (sparse), store them (dense), or what is better (auto, default)",
    )
    group.add_argument(
        "--optimize-for",
        choices=GOALS,
        default="disk",
        help="what is better: fewer bytes (disk, default), fewer when compressed (download), or "
        "lower latency on this machine",
    )
    group.add_argument(
        "--representative-data",
        metavar="DATA",
        help="typical examples for int8: .npy, or .npz with an array for each input",
    )


def _add_change_options(group):
    group.add_argument(
        "--compact", action="store_true", help="remove dead units and channels, which is exact"
    )
    group.add_argument(
        "--sparsity",
        type=fraction,
        metavar="S",
        help="prune to this sparsity, by magnitude and without training: to try size and latency, "
        "not accuracy",
    )
    group.add_argument(
        "--pattern",
        metavar="P",
        help="what --sparsity prunes: unstructured (default), channel, N:M such as 2:4, or blocks "
        "such as 4x1",
    )


def _add_check_options(group):
    group.add_argument(
        "--verify-data",
        metavar="DATA",
        help="examples to compare on: .npy, or .npz with an array for each input (default: random)",
    )
    group.add_argument(
        "--tolerance",
        type=positive,
        metavar="T",
        help="largest difference from Keras, as a fraction of the largest output (default: what "
        "rounding explains, 1e-5 for float32)",
    )
    group.add_argument(
        "--runs",
        type=whole(1),
        default=50,
        metavar="N",
        help="runs to time each file (default: 50)",
    )


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If the model is not fit for export or would be overwritten.
        OSError: If a file cannot be read or written.
        RuntimeError: If the file would be wrong or the backend is not TensorFlow.
    """
    if args.pattern is not None and args.sparsity is None:
        raise ValueError(
            "--pattern must come with --sparsity: a model keeps the pattern it was trained in. "
            f"Received: --pattern {args.pattern}"
        )
    import_keras()
    from tf_lottery_cli import inputs

    source = pathlib.Path(args.file)
    target = source.with_suffix(".tflite") if args.out is None else pathlib.Path(args.out)
    model = inputs.load_model(source)
    if target.exists() and target.samefile(source):
        raise ValueError(f"-o must not be the model itself. Received: {str(target)!r}")
    from rich.console import Console

    from tf_lottery.export import export_tflite

    reports = {}
    if args.sparsity is not None:
        model = _pruned(model, args.sparsity, args.pattern)
    if args.compact:
        from tf_lottery.export import compact

        model, reports["compaction"] = compact(model)
    try:
        reports["export"] = export_tflite(
            model,
            target,
            inputs.load_examples(args.verify_data),
            quantize=args.quantize,
            storage=args.storage,
            optimize_for=args.optimize_for,
            representative_data=inputs.load_examples(args.representative_data),
            tolerance=args.tolerance,
            runs=args.runs,
        )
    except ValueError as error:
        raise ValueError(_in_options(str(error))) from error
    if args.json:
        compaction = {"compaction": reports["compaction"].to_dict()} if args.compact else {}
        print(json.dumps({**reports["export"].to_dict(), **compaction}, indent=1))
    else:
        Console().print(*reports.values())


def _in_options(message):
    """Replaces the names of arguments in a message by those of options."""
    for option in ("quantize", "storage", "representative_data"):
        message = message.replace(f"Argument `{option}`", f"--{option.replace('_', '-')}")
    return message.replace("Argument `sample_inputs`", "--verify-data")


def _pruned(model, sparsity, pattern):
    """Prunes a model by magnitude, without regard to the masks that it had before."""
    import tf_lottery as tfl

    plain = tfl.strip(model) if isinstance(model, tfl.SparseModel) else model
    return tfl.sparsify(plain, sparsity=sparsity, pattern=pattern or "unstructured")
