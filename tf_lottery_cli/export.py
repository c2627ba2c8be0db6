"""`tf-lottery export`: from a Keras file to a TFLite file."""

import functools
import json
import pathlib
import re

from tf_lottery_cli.argument_types import at_least_one, fraction, positive, whole
from tf_lottery_cli.data_options import add_own_data_options, inputs_of
from tf_lottery_cli.files import existing_file, existing_source
from tf_lottery_cli.model_options import import_custom
from tf_lottery_cli.parser import GOALS, IO_TYPES, PRECISIONS, RUNTIMES, STORAGES, add_command
from tf_lottery_cli.terminal import import_keras

DESCRIPTION = """\
Writes a .keras model, masked or stripped, to a TFLite file without its zeros, runs the file,
compares it with Keras and times it; a file that does not load or disagrees is not written.
Use it when training is done. The sparse file is smaller; it is faster only where kernels skip
zeros, as with --pattern 4x1 in training and one example at a time, or on ARM (see `tf-lottery
inspect --arm`). With --runtime micro the file is for microcontrollers: all int8, zeros stored,
run in TFLite Micro's interpreter too if `tflite-micro` is installed. Needs Keras on TensorFlow.

  tf-lottery export runs/train/model.keras -o model.tflite
  tf-lottery export model.keras --quantize weight_int8 --verify-data examples.npy
  tf-lottery export model.keras --runtime micro --representative-data examples.npy

To see what a sparsity would bring before you train for it:

  tf-lottery export model.keras -o try.tflite --sparsity 0.9 --pattern 4x1 --optimize-for latency

DATA is a .npy file, a .npz file with x or with an array for each input of the model, a folder of
images, a .csv table, tfds:NAME, or MODULE:FUNCTION, a function of yours that returns arrays or a
tf.data data set. Labels are not used."""


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands, "export", run, "write a model to a TFLite file that was run", DESCRIPTION
    )
    parser.add_argument("file", type=existing_file, metavar="FILE", help="a .keras model")
    parser.add_argument(
        "-o", "--out", metavar="OUT", help="the file to write (default: FILE with .tflite)"
    )
    _add_form_options(parser.add_argument_group("form of the file"))
    _add_change_options(parser.add_argument_group("changes to the model before"))
    _add_check_options(parser.add_argument_group("checks"))
    add_own_data_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_form_options(group):
    group.add_argument(
        "--quantize",
        choices=PRECISIONS,
        help="fewer bits: for weights only (float16, weight_int8), also in products "
        "(dynamic_int8), or throughout (int8, or int16x8 with 16-bit activations; both need "
        "--representative-data); default: float32, and int8 for --runtime micro",
    )
    group.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="litert",
        help="what runs the file: LiteRT (default), TFLite Micro on microcontrollers (micro), or "
        "others, such as OpenVINO (portable, only plain sparse rows)",
    )
    group.add_argument(
        "--io-type",
        choices=IO_TYPES,
        help="type of inputs and outputs for int8 (default: float32, and int8 for micro)",
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
        "--max-slowdown",
        type=at_least_one,
        default=1.5,
        metavar="F",
        help="how many times longer the file may run for its smaller size (default: 1.5)",
    )
    group.add_argument(
        "--representative-data",
        type=existing_source,
        metavar="DATA",
        help="typical examples for int8 and int16x8, see above",
    )
    group.add_argument(
        "--batch", type=whole(1), metavar="N", help="examples at a time (default: 1)"
    )
    group.add_argument(
        "--dynamic-shapes",
        action="store_true",
        help="leave open how many examples at a time, and other lengths that the model leaves open",
    )
    group.add_argument(
        "--associated-file",
        action="append",
        type=existing_file,
        metavar="FILE",
        help="append a file, such as labels, as TFLite's metadata does (can be repeated)",
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
        type=existing_source,
        metavar="DATA",
        help="examples to compare on, see above (default: random)",
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
    from tf_lottery.experiments import model_file

    import_custom(args)
    source = pathlib.Path(args.file)
    target = source.with_suffix(".tflite") if args.out is None else pathlib.Path(args.out)
    model = model_file.load_model(source)
    if target.exists() and target.samefile(source):
        raise ValueError(f"-o must not be the model itself. Received: {str(target)!r}")
    reports = {}
    if args.sparsity is not None:
        model = _pruned(model, args.sparsity, args.pattern)
    if args.compact:
        from tf_lottery.export import compact

        model, reports["compaction"] = compact(model)
    reports["export"] = _export(model, target, args)
    _print(reports, args)


def _export(model, target, args):
    """Writes the file, and returns the report of it."""
    from tf_lottery.export import ExportError, export_tflite

    examples = functools.partial(inputs_of, args, model)
    try:
        return export_tflite(
            model,
            target,
            examples(args.verify_data),
            quantize=args.quantize,
            storage=args.storage,
            optimize_for=args.optimize_for,
            representative_data=examples(args.representative_data),
            tolerance=args.tolerance,
            runs=args.runs,
            runtime=args.runtime,
            io_type=args.io_type,
            batch=args.batch,
            dynamic_shapes=args.dynamic_shapes,
            associated_files=args.associated_file,
            max_slowdown=args.max_slowdown,
        )
    except ValueError as error:
        raise ValueError(_in_options(str(error))) from error
    except ExportError as error:
        raise RuntimeError(_in_options(str(error))) from error


def _print(reports, args):
    from rich.console import Console

    if args.json:
        compaction = {"compaction": reports["compaction"].to_dict()} if args.compact else {}
        print(json.dumps({**reports["export"].to_dict(), **compaction}, indent=1))
    else:
        Console(markup=False).print(*reports.values())


def _in_options(message):
    """Replaces the names of arguments in a message by those of options."""
    for name in ("quantize", "storage", "representative_data", "io_type", "batch", "tolerance"):
        option = f"--{name.replace('_', '-')}"
        message = message.replace(f"Argument `{name}`", option).replace(f"`{name}`", option)
    message = message.replace("or quantize=None", "or no --quantize")
    message = re.sub(r"or quantize='(\w+)'", r"or --quantize \1", message)
    return message.replace("Argument `sample_inputs`", "--verify-data")


def _pruned(model, sparsity, pattern):
    """Prunes a model by magnitude, without regard to the masks that it had before."""
    import tf_lottery as tfl

    plain = tfl.strip(model) if isinstance(model, tfl.SparseModel) else model
    return tfl.sparsify(plain, sparsity=sparsity, pattern=pattern or "unstructured")
