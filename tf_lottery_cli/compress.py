"""`tf-lottery compress`: from a trained model to a TFLite file within a budget."""

import argparse
import json
import math
import pathlib
import re
import warnings

from tf_lottery_cli.argument_types import positive, whole
from tf_lottery_cli.data_options import DATA, add_own_data_options, note_classes, reading
from tf_lottery_cli.files import existing_file, existing_source
from tf_lottery_cli.model_options import import_custom
from tf_lottery_cli.parser import add_command, add_output_options, add_run_options
from tf_lottery_cli.terminal import Output, drawing, import_keras

DESCRIPTION = """\
Finds the .tflite file of a trained model that meets a budget at the least loss of accuracy.
It prunes single weights, blocks and channels to several sparsities, in one step and without
labels, and with --finetune trains further where that costs too much; writes each network in several
precisions; runs every file, compares it with Keras, times it, and measures the accuracy of the file
itself. It prints the files that no other one beats, and says which one to take. Use it when you
have a trained model and a limit. Ctrl-C shows what is known so far; the same command goes on.

  tf-lottery compress model.keras --data train.npz --validation-data val.npz --max-bytes 200kB
  tf-lottery compress model.keras --data train.npz --max-milliseconds 5 --max-drop 0.5% --finetune 5

{data} Without validation data, a tenth of the
training data is held out; if the model was trained with it, its accuracy there is flattering."""

RESUME = "(the same command goes on where it stopped)"
_UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "Ki": 1024, "Mi": 1024**2}
_OPTIONS = {
    "budget": "--max-bytes, --max-flops or --max-milliseconds",
    "train": "--data",
    "validation": "--validation-data",
    "model": "FILE",
    "max_drop": "--max-drop",
}


def add_parser(commands):
    """Adds the subcommand.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "compress",
        run,
        "fit a trained model into bytes or time",
        DESCRIPTION.format(data=DATA),
        RESUME,
    )
    parser.add_argument("file", type=existing_file, metavar="FILE", help="a .keras model")
    parser.add_argument(
        "--data",
        type=existing_source,
        required=True,
        metavar="DATA",
        help="training data, see above",
    )
    parser.add_argument(
        "--validation-data",
        type=existing_source,
        metavar="DATA",
        help="examples that the model was not trained with (default: a tenth of --data)",
    )
    limits = parser.add_argument_group("budget, at least one of")
    limits.add_argument(
        "--max-bytes", type=amount("B"), metavar="N", help="size of the file, such as 200kB"
    )
    limits.add_argument(
        "--max-flops", type=amount(""), metavar="N", help="FLOPs of an example, such as 1.5M"
    )
    limits.add_argument(
        "--max-milliseconds",
        type=positive,
        metavar="T",
        help="of an example on one thread of this machine",
    )
    parser.add_argument(
        "--max-drop",
        type=percentage,
        default=0.01,
        metavar="D",
        help="accuracy that the file may lose, such as 0.5%% or 0.005 (default: 1%%)",
    )
    parser.add_argument(
        "--finetune",
        type=whole(0),
        default=0,
        metavar="N",
        help="epochs to train further where one-shot pruning costs too much (default: 0)",
    )
    add_own_data_options(parser)
    parser.add_argument(
        "-o", "--save", metavar="FILE", help="copy the recommended file to this .tflite file"
    )
    add_run_options(parser, "runs/compress", "calibration examples and the order of the data")
    add_output_options(parser)


def amount(unit):
    """Returns the type of amounts such as `200kB`.

    Args:
        unit: String, what may stand at the end, `"B"` for bytes.

    Example:

    >>> amount("B")("200kB"), amount("B")("1KiB"), amount("")("1.5M")
    (200000, 1024, 1500000)
    """

    def parse(text):
        found = re.fullmatch(rf"([\d_.]+)\s*(Ki|Mi|[kMG]?){unit and f'(?:{unit})?'}", text)
        try:
            value = math.floor(float(found[1]) * _UNITS[found[2]]) if found else 0
        except ValueError:
            value = 0
        if value < 1:
            example = f"200k{unit}"
            raise argparse.ArgumentTypeError(
                f"must be a number above 0, such as {example}. Received: {text!r}"
            )
        return value

    return parse


def percentage(text):
    """Returns a share such as `0.5%` or `0.005` as a float from 0 to 1.

    Args:
        text: String.

    Example:

    >>> percentage("0.5%"), percentage("0.01")
    (0.005, 0.01)
    """
    number, is_percent = text.removesuffix("%"), text.endswith("%")
    try:
        value = float(number) / (100 if is_percent else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(
            f"must be a share from 0 to 1, or a percentage such as 0.5%. Received: {text!r}"
        )
    return value


def run(args):
    """Runs the subcommand.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If the model or the data are not fit for it, or no file meets the budget
            although `--save` was given.
        OSError: If a file cannot be read or written.
        RuntimeError: If the backend is not TensorFlow, or the search ended early. What is known
            was then printed.
        KeyboardInterrupt: After Ctrl-C; what is known was then printed.
    """
    names = {"bytes": "max_bytes", "flops": "max_flops", "milliseconds": "max_milliseconds"}
    budget = {kind: getattr(args, name) for kind, name in names.items() if getattr(args, name)}
    if not budget:
        raise ValueError("one of --max-bytes, --max-flops and --max-milliseconds must be given")
    _check_target(args.save)
    import_keras()
    from tf_lottery.compression import compress
    from tf_lottery.experiments import model_file

    import_custom(args)
    model = model_file.load_plain(args.file)
    train, validation = _data(args, model_file.input_shape(model))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The compression ended early")
            result = compress(
                model,
                train,
                validation,
                budget=budget,
                max_drop=args.max_drop,
                finetune=args.finetune,
                directory=args.out,
                fresh=args.fresh,
                seed=args.seed,
                verbose=not args.quiet,
            )
    except ValueError as error:
        raise ValueError(_in_options(str(error))) from error
    _print(result, args)
    if result.stopped == "interrupted":
        raise KeyboardInterrupt
    if result.stopped:
        raise RuntimeError(f"{result.stopped} {RESUME}")
    try:
        if args.save is not None:
            result.save(args.save)
    finally:
        if result.files:
            with drawing("compress", "front.png"):
                result.plot(pathlib.Path(args.out) / "front.png")


def _check_target(path):
    if path is not None and (
        pathlib.Path(path).suffix != ".tflite" or not pathlib.Path(path).parent.is_dir()
    ):
        raise ValueError(f"-o must be a .tflite file in a folder that exists. Received: {path!r}")


def _data(args, input_shape):
    """Returns the training and validation data."""
    from tf_lottery.experiments.data import hold_out, read_source

    how = {"reading": reading(args), "input_shape": input_shape}
    found = read_source(args.data, **how)
    note_classes(Output(args), found.classes)
    # A test without a validation serves as one.
    parts = [_given(part) for part in found.parts if part is not None]
    if args.validation_data is not None:
        other = read_source(args.validation_data, **how, classes=found.classes)
        return parts[0], _given(other.parts[0])
    if len(parts) > 1:
        return parts[0], parts[1]
    return hold_out(parts[0], max(1, len(parts[0][1]) // 10), args.seed)


def _given(part):
    """Returns `(x, y, sample_weight)`, without weights that are not there."""
    return part if part[2] is not None else part[:2]


def _in_options(message):
    """Replaces the names of arguments in a message by those of options."""
    for argument, option in _OPTIONS.items():
        message = message.replace(f"Argument `{argument}`", option)
    return message


def _print(result, args):
    from rich.console import Console

    if args.json:
        print(json.dumps(result.to_dict(), indent=1))
        return
    console = Console(markup=False)
    console.print(result)
    console.print(
        f"In {pathlib.Path(args.out)}: *.tflite, *.keras (the networks), and, once it is complete, "
        "results.json and front.png (the plot)",
        highlight=False,
        soft_wrap=True,
    )
