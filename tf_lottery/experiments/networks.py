"""The networks by name, and which data they fit."""

import functools
from collections.abc import Callable

from tf_lottery.checks import choice
from tf_lottery.experiments import models, own_network


def _gru(input_shape, num_classes, seed, units=128, embedding=64):
    return models.gru_language_model(
        num_classes, units=units, embedding=embedding, input_shape=input_shape, seed=seed
    )


_SMALL = 0.25

MODELS: dict[str, Callable] = {
    "lenet-300-100": models.lenet_300_100,
    "lenet-5": models.lenet_5,
    "conv-4": models.conv_4,
    "conv-4-small": functools.partial(models.conv_4, width=_SMALL),
    "conv-4-norms": functools.partial(models.conv_4, norms=True),
    "conv-4-norms-small": functools.partial(models.conv_4, width=_SMALL, norms=True),
    "conv-6": models.conv_6,
    "conv-6-small": functools.partial(models.conv_6, width=_SMALL),
    "conv-6-norms": functools.partial(models.conv_6, norms=True),
    "conv-6-norms-small": functools.partial(models.conv_6, width=_SMALL, norms=True),
    "resnet-8": functools.partial(models.resnet, 8),
    "resnet-8-small": functools.partial(models.resnet, 8, stem_strides=2),
    "resnet-20": models.resnet_20,
    "resnet-56": functools.partial(models.resnet, 56),
    "resnet-18": functools.partial(models.resnet_18, stem="cifar"),
    "resnet-34": functools.partial(models.resnet_34, stem="cifar"),
    "resnet-50": models.resnet_50,
    "wide-resnet-22-2": models.wide_resnet_22_2,
    "vgg-16": models.vgg_16,
    "vgg-19": models.vgg_19,
    "mobilenet-v1": models.mobilenet_v1,
    "mobilenet-v2": models.mobilenet_v2,
    "mlperf-tiny-ds-cnn": models.mlperf_tiny_ds_cnn,
    "mlperf-tiny-mobilenet-v1": models.mlperf_tiny_mobilenet_v1,
    "mlperf-tiny-resnet-8": models.mlperf_tiny_resnet_8,
    "gru": _gru,
    "gru-512": functools.partial(_gru, units=512, embedding=128),
}
TEXT_MODELS = ("gru", "gru-512")
# What `default_model` returns for the data sets of `data.load`.
DEFAULT_MODELS = {
    "digits": "lenet-300-100",
    "mnist": "lenet-300-100",
    "cifar10": "conv-4-norms-small",
    "fashion_mnist": "lenet-300-100",
    "cifar100": "conv-4-norms-small",
    "tiny_imagenet": "conv-4-norms-small",
    "gestures": "lenet-300-100",
    "speech_commands": "lenet-300-100",
    "tiny_shakespeare": "gru",
}
# The fewest rows and columns with which pixels are left after the last pooling.
SMALLEST_IMAGES = {
    "lenet-5": 16,
    **{name: 4 for name in MODELS if name.startswith("conv-4")},
    **{name: 8 for name in MODELS if name.startswith("conv-6")},
    **{name: 16 for name in MODELS if name.startswith("vgg")},
    **{name: 31 for name in MODELS if name.startswith("mobilenet")},
}


# The networks that take inputs of any shape; the others take images, or text.
ANY_SHAPE = ("lenet-300-100",)


def check_name(name):
    """Raises a `ValueError` if there is no such network; the name of a `.keras` file is one.

    Args:
        name: String.
    """
    if not own_network.is_file(name):
        choice("model", name, tuple(MODELS))


def identity(name):
    """Returns what tells a network from others, for the settings of a run.

    Args:
        name: String, a key of `MODELS` or the path of a `.keras` file.

    Raises:
        OSError: If there is no such file.

    Example:

    >>> identity("lenet-5")
    {'model': 'lenet-5'}
    """
    return own_network.identity(name) if own_network.is_file(name) else {"model": name}


def check_new_weights(name, argument, value):
    """Raises a `ValueError` if a network has no other initial weights than its own.

    Args:
        name: String; see `identity`.
        argument: String, the argument that asks for other ones.
        value: Its value.
    """
    if own_network.is_file(name):
        raise ValueError(
            f"Argument `{argument}` must do without new initial weights for a network from a file, "
            f"which has one set of them. Received: {argument}={value!r} with model={name!r}"
        )


def default_model(data):
    """Returns the name of a small network that fits a data set.

    Args:
        data: `Data`.

    Example:

    >>> from tf_lottery.experiments.data import load
    >>> default_model(load("digits"))
    'lenet-300-100'
    """
    if data.vocabulary:
        return "gru"
    # With normalization: without it the signal of a sparse network vanishes.
    is_coloured = len(data.input_shape) == 3 and data.input_shape[-1] == 3
    return "conv-4-norms-small" if is_coloured else "lenet-300-100"


def build(name, data, seed):
    """Returns a plain network with initial weights that depend on a seed.

    Args:
        name: String, a key of `MODELS`, or the path of a `.keras` file, whose network has its own
            weights whatever the seed; see `own_network.load_network`.
        data: `Data`, for the shape of inputs and the number of classes.
        seed: Integer.

    Raises:
        ValueError: If the name is unknown or the network does not fit the data.
        OSError: If there is no such file.

    Example:

    >>> from tf_lottery.experiments.data import load
    >>> build("lenet-300-100", load("digits"), seed=0).count_params()
    50610
    """
    check_name(name)
    if own_network.is_file(name):
        return own_network.load_network(name, data)
    if (name in TEXT_MODELS) != bool(data.vocabulary):
        kinds = ("text", "images") if name in TEXT_MODELS else ("images", "text")
        raise ValueError(
            f"Argument `model` must fit the data: {name!r} is for {kinds[0]}. "
            f"Received: model={name!r} with {data.name!r}, which is {kinds[1]}"
        )
    if not data.vocabulary and name not in ANY_SHAPE and len(data.input_shape) != 3:
        raise ValueError(
            f"Argument `model` must fit the data: {name!r} takes images. Received: model={name!r} "
            f"with {data.name!r}, inputs of shape {data.input_shape}"
        )
    smallest = SMALLEST_IMAGES.get(name)
    if smallest is not None and min(data.input_shape[:2]) < smallest:
        raise ValueError(
            f"Argument `model` must fit the data: {name!r} needs images of at least "
            f"{smallest}x{smallest} pixels. Received: model={name!r} with {data.name!r}, "
            f"images of {data.input_shape[0]}x{data.input_shape[1]}"
        )
    return MODELS[name](data.input_shape, data.num_classes, seed)
