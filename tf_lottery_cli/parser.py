"""The argument parser: common options, and errors in one line."""

import argparse

from tf_lottery_cli.argument_types import number, positive, several, whole

# Repeated here, since the modules that define them import Keras.
OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "cosine", "step")
AUGMENTATIONS = ("flip", "shift")
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
PRECISIONS = ("float16", "weight_int8", "dynamic_int8", "int8", "int16x8")
RUNTIMES = ("litert", "micro", "portable")
IO_TYPES = ("float32", "int8", "uint8")
STORAGES = ("auto", "sparse", "dense")
GOALS = ("disk", "download", "latency")

_STATIC = ("sparsity", "distribution", "pattern", "rescale")
_DYNAMIC = (*_STATIC, "drop_fraction", "frequency", "end_step")
_AT_INIT = ("sparsity", "distribution", "pattern", "scope")

# The options of each method beside those of all methods.
METHODS = {
    "rigl": _DYNAMIC,
    "set": _DYNAMIC,
    "snfs": _DYNAMIC,
    "static": _STATIC,
    "gmp": (*_AT_INIT, "frequency", "end_step"),
    "snip": _AT_INIT,
    "grasp": _AT_INIT,
    "synflow": _AT_INIT,
    "imp": ("sparsity", "scope", "pattern", "levels", "rate", "rewind", "rewind_to_step"),
    "cs": (
        "rounds",
        "target_density",
        "exact_density",
        "initial_value",
        "gate_learning_rate",
        "rewind_to_step",
        "mode",
    ),
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


def add_output_options(parser, result="a table"):
    """Adds what is printed.

    Args:
        parser: A `Parser`.
        result: String, what is printed otherwise. Defaults to `"a table"`.
    """
    parser.add_argument("--json", action="store_true", help=f"print JSON instead of {result}")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def add_step_options(parser, schedule="constant"):
    """Adds the optimizer, its learning rate and the batches of its steps.

    Args:
        parser: A `Parser`.
        schedule: String, the default schedule. Defaults to `"constant"`.
    """
    parser.add_argument(
        "--batch-size", type=whole(1), default=60, metavar="N", help="(default: 60)"
    )
    parser.add_argument(
        "--augment",
        type=several(str),
        default=[],
        metavar="A[,A...]",
        help="change training images at random: flip, shift, or flip,shift as usual for cifar10",
    )
    parser.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        default="adam",
        help="adam (default), or sgd with Nesterov momentum of 0.9",
    )
    parser.add_argument(
        "--learning-rate",
        type=positive,
        metavar="R",
        help="at first (default: 0.0012 with adam, 0.1 with sgd)",
    )
    parser.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default=schedule,
        help="how the learning rate falls: to 0 along a cosine, or to a tenth after a half and "
        f"again after three quarters (step), also in every level or round (default: {schedule})",
    )
    parser.add_argument(
        "--weight-decay",
        type=number,
        default=0.0,
        metavar="W",
        help="share that a step takes off weights, times the learning rate (default: 0)",
    )


def step_options(args):
    """Returns the options of `add_step_options`, as arguments of the settings of an experiment.

    Args:
        args: The parsed arguments.

    Raises:
        ValueError: If `--augment` has an unknown name.
    """
    if not set(args.augment) <= set(AUGMENTATIONS):
        raise ValueError(
            f"--augment must be names of {', '.join(AUGMENTATIONS)}, separated by commas. "
            f"Received: --augment {','.join(args.augment)}"
        )
    names = ("batch_size", "optimizer", "learning_rate", "schedule", "weight_decay")
    return {"augment": tuple(args.augment), **{name: getattr(args, name) for name in names}}


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
