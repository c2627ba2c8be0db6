"""Arguments: their types, and errors in one line."""

import argparse

# Written out here, since the modules that know them import Keras.
DATASETS = ("digits", "mnist", "cifar10")
MODELS = ("lenet-300-100", "resnet-20")
REWINDS = ("weights", "learning_rate", "none")
SCOPES = ("global", "layer")


class Parser(argparse.ArgumentParser):
    """A parser that keeps the line breaks of its texts and says what is wrong in one line."""

    def __init__(self, **kwargs):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(**kwargs, formatter_class=formatter, allow_abbrev=False)

    def error(self, message):
        """Prints one line and exits with code 2."""
        self.exit(2, f"{self.prog}: error: {message} (`{self.prog} -h` explains)\n")


def add_command(commands, name, run, summary, description, when_interrupted=""):
    """Adds a subcommand.

    Args:
        commands: What `add_subparsers` returned.
        name: String.
        run: Function of the parsed arguments.
        summary: String, the line in the list of commands.
        description: String, what it does, when to use it, and an example.
        when_interrupted: String that Ctrl-C prints. Defaults to `""`.

    Returns:
        The subcommand's `Parser`.
    """
    parser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(run=run, when_interrupted=when_interrupted)
    return parser


def add_data_options(parser):
    """Adds what `experiments.data.load` asks for."""
    parser.add_argument(
        "--dataset",
        choices=DATASETS,
        default="digits",
        help="digits (default) comes with scikit-learn: 1,797 images of 8x8; mnist and cifar10 "
        "are read through TensorFlow Datasets",
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of TensorFlow Datasets (default: its usual one)"
    )
    parser.add_argument(
        "--download", action="store_true", help="let TensorFlow Datasets fetch what is missing"
    )


def add_run_options(parser, out):
    """Adds the folder of a run and the seed.

    Args:
        parser: A `Parser`.
        out: String, the default folder.
    """
    parser.add_argument(
        "--out",
        metavar="DIR",
        default=out,
        help="folder for the results (default: %(default)s); an interrupted run in it goes on",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="delete the files of an earlier run in --out first"
    )
    parser.add_argument(
        "--seed",
        type=whole(0),
        metavar="N",
        default=0,
        help="decides initial weights and the order of the data (default: 0)",
    )


def whole(least, most=None):
    """Returns the type of whole numbers from `least` to `most`.

    Args:
        least: Integer.
        most: Integer. Defaults to `None`: no bound.
    """
    bounds = f"from {least} to {most}" if most is not None else f">= {least}"

    def parse(text):
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"must be an integer {bounds}. Received: {text!r}")
        return value

    return parse


def fraction(text):
    """Returns `text` as a float above 0 and below 1."""
    return _number(text, lambda value: 0 < value < 1, "a number above 0 and below 1")


def positive(text):
    """Returns `text` as a float above 0."""
    return _number(text, lambda value: 0 < value < float("inf"), "a number above 0")


def _number(text, is_fine, expected):
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not is_fine(value):
        raise argparse.ArgumentTypeError(f"must be {expected}. Received: {text!r}")
    return value
