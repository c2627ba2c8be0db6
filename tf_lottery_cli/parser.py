"""The argument parser: common options, types of arguments, and errors in one line."""

import argparse

# Repeated here, since the modules that define them import Keras.
IMAGES = ("digits", "mnist", "cifar10")
DATASETS = (*IMAGES, "tiny_shakespeare")
MODELS = (
    "lenet-300-100",
    "lenet-5",
    "conv-4",
    "conv-4-small",
    "conv-6",
    "conv-6-small",
    "resnet-8-small",
    "resnet-20",
    "wide-resnet-22-2",
    "gru",
)
DISTRIBUTIONS = ("uniform", "er", "erk")
REWINDS = ("weights", "learning_rate", "none")
SCOPES = ("global", "layer")
MODES = ("ticket", "prune")
STARTS = ("shared", "independent")
ACTIVATIONS = ("swish", "pswish", "gelu", "mish", "elu", "softplus")
CONTROLS = (
    "random-reinitialization",
    "sign-kept-reinitialization",
    "shuffled-masks",
    "random-masks",
    "constant-weights",
)
PRECISIONS = ("float16", "weight_int8", "dynamic_int8", "int8")
STORAGES = ("auto", "sparse", "dense")
GOALS = ("disk", "download", "latency")

_STATIC = ("sparsity", "distribution", "pattern")
_DYNAMIC = (*_STATIC, "drop_fraction", "frequency", "end_step")
_AT_INIT = (*_STATIC, "scope")

# The options of each method beside those of all methods.
METHODS = {
    "rigl": _DYNAMIC,
    "set": _DYNAMIC,
    "snfs": _DYNAMIC,
    "static": _STATIC,
    "gmp": ("sparsity", "scope", "pattern", "frequency", "end_step"),
    "snip": _AT_INIT,
    "grasp": _AT_INIT,
    "synflow": _AT_INIT,
    "imp": ("sparsity", "scope", "pattern", "levels", "rate", "rewind", "rewind_to_step"),
    "cs": ("rounds", "target_density", "exact_density", "initial_value", "mode"),
    "dense": (),
}

# Tweaks of retraining: the names in the command and in the library.
TWEAKS = {
    "soft-activation": "soft_activations",
    "ghost-skips": "ghost_skips",
    "rescaled-init": "rescaled_initialization",
    "label-smoothing": "label_smoothing",
    "distill": "distillation",
}


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Leaves room for the indentation of subcommands, which Python does not count."""

    def add_argument(self, action):
        super().add_argument(action)
        self._action_max_length += 2


class Parser(argparse.ArgumentParser):
    """A parser that keeps the line breaks of descriptions and reports errors in one line."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs, formatter_class=_HelpFormatter, allow_abbrev=False)

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


def add_data_options(parser, datasets=DATASETS, default="digits", note=""):
    """Adds the arguments of `experiments.data.load`.

    Args:
        parser: A `Parser`.
        datasets: Tuple of strings. Defaults to all.
        default: String, or `None` if the command finds the data set itself. Defaults to `"digits"`.
        note: String, what the help says about the default in that case. Defaults to `""`.
    """
    parser.add_argument(
        "--dataset",
        choices=datasets,
        default=default,
        help=f"digits {'(default) ' if default else ''}comes with scikit-learn: 1,797 images of "
        f"8x8; the others are read through TensorFlow Datasets{note}",
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of TensorFlow Datasets (default: its usual one)"
    )
    parser.add_argument(
        "--download", action="store_true", help="let TensorFlow Datasets fetch what is missing"
    )


def add_run_options(parser, out, seed="initial weights and the order of the data"):
    """Adds the folder of a run and the seed.

    Args:
        parser: A `Parser`.
        out: String, the default folder.
        seed: String, what the seed decides. Defaults to initial weights and the order of the
            data.
    """
    parser.add_argument(
        "--out",
        metavar="DIR",
        default=out,
        help="folder for the results (default: %(default)s); an interrupted run is resumed",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="delete the files of an earlier run in --out first"
    )
    parser.add_argument(
        "--seed",
        type=whole(0),
        metavar="N",
        default=0,
        help=f"decides {seed} (default: 0)",
    )


def add_step_options(parser, rate="of Adam"):
    """Adds the size of a training step's batch and its learning rate.

    Args:
        parser: A `Parser`.
        rate: String, the help for the learning rate. Defaults to `"of Adam"`.
    """
    parser.add_argument(
        "--batch-size", type=whole(1), default=60, metavar="N", help="(default: 60)"
    )
    parser.add_argument(
        "--learning-rate",
        type=positive,
        default=1.2e-3,
        metavar="R",
        help=f"{rate} (default: 0.0012)",
    )


def options_of_method(args):
    """Returns the options of the method that were given, as a dict.

    Args:
        args: The parsed arguments, `None` for options that were not given.

    Raises:
        ValueError: If an option belongs to other methods.

    Example:

    >>> given = {"method": "rigl", "frequency": 50}
    >>> names = {name for names in METHODS.values() for name in names}
    >>> options_of_method(argparse.Namespace(**{**dict.fromkeys(names), **given}))
    {'frequency': 50}
    """
    methods_with = {}
    for method, names in METHODS.items():
        for name in names:
            methods_with.setdefault(name, []).append(method)
    options = {name: getattr(args, name) for name in methods_with}
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if args.method not in methods_with[name]:
            methods = ", ".join(methods_with[name])
            raise ValueError(
                f"--{name.replace('_', '-')} is an option of --method {methods}. "
                f"Received: --method {args.method}"
            )
    return given


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


def share(text):
    """Returns `text` as a float above 0 and at most 1."""
    return _number(text, lambda value: 0 < value <= 1, "a number above 0 and at most 1")


def positive(text):
    """Returns `text` as a float above 0."""
    return _number(text, lambda value: 0 < value < float("inf"), "a number above 0")


def number(text):
    """Returns `text` as a finite float."""
    return _number(text, lambda value: abs(value) < float("inf"), "a number")


def several(kind):
    """Returns the type of values separated by commas, without repetitions.

    Args:
        kind: The type of one value, a function of a string.
    """

    def parse(text):
        return list(dict.fromkeys(kind(part) for part in text.split(",")))

    return parse


def _number(text, is_fine, expected):
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not is_fine(value):
        raise argparse.ArgumentTypeError(f"must be {expected}. Received: {text!r}")
    return value
