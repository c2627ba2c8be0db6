"""`tfl.channel_groups`: which channels of a model can only be pruned together."""

import functools

import keras

from tf_lottery import _keras
from tf_lottery.model import SparseModel, named_weights
from tf_lottery.structured.graph import Graph
from tf_lottery.structured.grouping import Grouping
from tf_lottery.structured.products import count_macs
from tf_lottery.structured.report import ChannelGroups
from tf_lottery.structured.rules.base import Rule
from tf_lottery.structured.rules.table import is_opened


def channel_groups(
    model: keras.Model,
    *,
    rules: dict | None = None,
    input_shape: tuple | list | dict | None = None,
) -> ChannelGroups:
    """Finds the channels of a model that can only be pruned together.

    Channels are the units of dense and recurrent layers, the filters of convolutions, the heads
    of attention, and the widths of its keys and values. A residual addition ties the
    channels of its branches, a product those of its factors; depthwise and grouped convolutions
    tie inputs to outputs; concatenation, flattening and reshaping pass them on at other
    positions. Layers and models that are called several times tie their calls.

    Channels stay if they are inputs or outputs of the model, enter a layer that mixes its
    channels, such as layer normalization, or a layer whose kind is not known. Layers of
    other kinds and subclassed models are looked into: their `call` is followed through the
    layers and functions of `keras.ops` that it uses.

    Args:
        model: A `SparseModel` or a built Keras model. It is not changed.
        rules: Dict of layer classes to objects of `tfl.structured.Rule`, for custom layers
            that cannot be followed, for example since they use weights in `keras.ops.einsum`.
            Rules hold only for these very classes, not for their
            subclasses. They are given here, and not registered, so that what a model's
            groups are does not depend on what else the program imports. Defaults to `None`.
        input_shape: Tuple, the shape of one example without the batch axis, by which FLOPs are
            counted if the model leaves it open; a list or dict of tuples for several inputs.
            Defaults to `None`: the shape that the model was built with.

    Returns:
        A `ChannelGroups`, a sequence of groups that prints as a table: their channels,
        kernels, and the parameters and FLOPs that one channel frees, and below it which layers
        must keep their channels, and why.

    Raises:
        ValueError: If `model` is not built or its `call` does not work with symbolic
            tensors, or an argument is of another type.

    Example:

    >>> groups = tfl.channel_groups(model)
    >>> [(group.name, group.width) for group in groups], groups.freed()
    ([('hidden', 10)], {'hidden': (11, 10)})
    >>> groups.fixed
    {'an output of the model': {'output': 2}}
    """
    _check_rules(rules)
    layer = model.model if isinstance(model, SparseModel) else model
    if not isinstance(layer, keras.Layer) or not layer.built:
        raise ValueError(f"Argument `model` must be a built Keras model. Received: model={model!r}")
    named = named_weights(model)
    keys = {id(variable): name for name, variable in named.items()}
    with _keras.kept_random_state():
        graph = Graph(layer, functools.partial(is_opened, rules=rules))
        found = Grouping(graph, keys, rules)
        macs = _macs_if_known(layer, keys, input_shape)
    shapes = {name: tuple(variable.shape) for name, variable in named.items()}
    return ChannelGroups(layer.name, tuple(found.groups), found.fixed, found.notes, shapes, macs)


def _macs_if_known(layer, keys, input_shape):
    """Returns the multiply-accumulates of kernels, an empty dict if shapes are open."""
    try:
        return count_macs(layer, keys, input_shape)
    except ValueError:
        if input_shape is not None:
            raise
        return {}


def _check_rules(rules):
    if rules is None:
        return
    is_dict = isinstance(rules, dict)
    if not is_dict or not all(
        isinstance(kind, type) and isinstance(rule, Rule) for kind, rule in rules.items()
    ):
        raise ValueError(
            "Argument `rules` must be a dict of layer classes to objects of "
            f"`tf_lottery.structured.Rule`. Received: rules={rules!r}"
        )
