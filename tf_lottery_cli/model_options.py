"""The options that name a network and what its file needs."""

import argparse

from tf_lottery_cli.files import did_you_mean, existing_file

# Repeated here, since the module that defines it imports Keras.
MODELS = (
    "lenet-300-100",
    "lenet-5",
    "conv-4",
    "conv-4-small",
    "conv-4-norms",
    "conv-4-norms-small",
    "conv-6",
    "conv-6-small",
    "conv-6-norms",
    "conv-6-norms-small",
    "resnet-8",
    "resnet-8-small",
    "resnet-20",
    "resnet-56",
    "resnet-18",
    "resnet-34",
    "resnet-50",
    "wide-resnet-22-2",
    "vgg-16",
    "vgg-19",
    "mobilenet-v1",
    "mobilenet-v2",
    "mlperf-tiny-ds-cnn",
    "mlperf-tiny-mobilenet-v1",
    "mlperf-tiny-resnet-8",
    "gru",
    "gru-512",
)
DEFAULT_MODELS = (
    "lenet-300-100; conv-4-norms-small for images of three channels; gru for tiny_shakespeare"
)


def add_model_option(parser, help):
    """Adds the network: one by name, or a file.

    Args:
        parser: A `Parser`.
        help: String, without the names.
    """
    names = f"{help}. Names: {', '.join(MODELS)}"
    parser.add_argument("--model", type=model, metavar="NAME|FILE", help=names)


def model(text):
    """Returns `text` if it is the name of a network, or the path of a file with one.

    Args:
        text: String.

    Example:

    >>> open("mine.keras", "wb").close()
    >>> model("lenet-5"), model("mine.keras")
    ('lenet-5', 'mine.keras')
    """
    if text in MODELS:
        return text
    if is_file(text):
        return existing_file(text)
    raise argparse.ArgumentTypeError(
        f"invalid choice: {text!r} (choose a .keras file, or one of {', '.join(MODELS)})"
        f"{did_you_mean(text, MODELS)}"
    )


def is_file(name):
    """Returns whether the name of a network is that of a file, as `own_network.is_file` does.

    Args:
        name: String.
    """
    return name.endswith((".keras", ".h5", ".hdf5"))


def add_import_option(parser):
    """Adds the module with what a file needs.

    Args:
        parser: A `Parser` or an argument group.
    """
    parser.add_argument(
        "--import",
        dest="module",
        metavar="MODULE",
        help="Python module to import first, with the custom classes of your model",
    )


def import_custom(args):
    """Imports the module of `--import`, if it was given.

    Args:
        args: The parsed arguments of `add_import_option`.
    """
    from tf_lottery.experiments.data.functions import import_module

    if args.module is not None:
        import_module(args.module)
