"""Add skip connections around masked convolutions, and remove them."""

from typing import Any

import keras

from tf_lottery._keras import all_layers
from tf_lottery.checks import choice, fraction, number_above
from tf_lottery.layers import find_kernels
from tf_lottery.layers.call_trace import trace_calls
from tf_lottery.layers.ghost_skips import BRANCHES, GhostSkips
from tf_lottery.layers.inputs import symbolic_inputs
from tf_lottery.model import SparseModel, check_sparse_model
from tf_lottery.tweaks import add_tweak, remove_tweak

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_PADDINGS = ("same", "causal")


def ghost_skips(
    model: SparseModel,
    include: Any = None,
    exclude: Any = None,
    branch: str = "conv",
    initial_value: float = 1e-4,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
) -> GhostSkips:
    """Adds skip connections around the masked convolutions of a sparse model.

    These are the ghost skips of "Training Your Sparse Neural Network Better with Any Mask"
    (arXiv:2206.12755): beside every 3x3 convolution, a 1x1 convolution with the same strides
    and batch normalization help gradients flow early in training. They are dense, have no
    masks and are not counted in the model's sparsity. `factor * branch(x)` is added to the
    output of the batch normalization that follows the convolution. If none follows, it is
    added to the convolution's output, before its own activation.

    `callbacks.GhostSkipAnnealing` lowers the factor from 1 to 0, and `remove_ghost_skips`
    restores the plain model. While the factor is not 0, `tfl.strip` and the exports refuse
    the model.

    Args:
        model: A `SparseModel`. Its wrapped model is not changed. If it is compiled, it has to
            be compiled again.
        include: Which convolutions get a skip, by their kernels, as in `tfl.sparsify`. Defaults
            to `None`: those with a mask and a kernel larger than 1x1.
        exclude: Which convolutions get none, in the same form. Defaults to `None`.
        branch: `"conv"`, or `"identity"` for branches without weights: `x` itself. Where
            shapes differ, `x` is averaged over the strides, and channels of zeros are added or
            the last channels left out. Defaults to `"conv"`.
        initial_value: Float, the initial value of all weights of the 1x1 convolutions.
            Defaults to `1e-4`, as in the official code.
        epsilon: Float > 0, that of the batch normalization. Since `initial_value` is small,
            it determines how large the branches are at first. Defaults to `1e-5`.
        momentum: Float in [0, 1), that of its moving averages. Defaults to `0.9`.

    Returns:
        The part `GhostSkips` of the model. `layer_names` lists the convolutions with a skip,
        and `skipped` is a dict of the paths of the other masked kernels to the reason.

    Raises:
        ValueError: If an argument is outside its range, no convolution is left or the model
            has ghost skips already.

    Example:

    >>> tfl.retrain.ghost_skips(convolutional, exclude="stem").layer_names
    ['conv_1', 'conv_2']
    """
    check_sparse_model(model)
    choice("branch", branch, BRANCHES)
    number_above("epsilon", epsilon, 0)
    fraction("momentum", momentum)
    convolutions, skipped = find_convolutions(model, include, exclude)
    if not convolutions:
        raise ValueError(
            "Argument `model` must have a masked convolution that can have a skip. "
            f"Received: {model.name!r}, left out: {skipped}"
        )
    layers, followers = all_layers(model.model), _followers(model.model, convolutions)
    skips = [_skip(layers, layer, followers.get(id(layer))) for layer in convolutions]
    return add_tweak(
        model, GhostSkips(skips, branch, initial_value, epsilon, momentum, skipped=skipped)
    )


def remove_ghost_skips(model: SparseModel) -> None:
    """Removes the ghost skips of a sparse model.

    Args:
        model: A `SparseModel`. After `callbacks.GhostSkipAnnealing` its outputs stay the
            same; else they change. It has to be compiled again for further training. Nothing
            happens if it has no ghost skips.

    Raises:
        ValueError: If `model` is not a `SparseModel`.

    Example:

    >>> skips = tfl.retrain.ghost_skips(convolutional)
    >>> tfl.retrain.remove_ghost_skips(convolutional)
    """
    remove_tweak(model, GhostSkips)


def find_convolutions(model, include=None, exclude=None):
    """Finds the convolutions that can have a ghost skip.

    Args:
        model: A `SparseModel`.
        include: As in `ghost_skips`. Defaults to `None`.
        exclude: As in `ghost_skips`. Defaults to `None`.

    Returns:
        List of layers, and a dict of the paths of the other masked kernels to the reason.
    """
    # Without `include`, only kernels larger than 1x1 get a skip.
    least_size = 2 if include is None else 1
    selection = find_kernels(model.model, include, exclude, frozen=True)
    chosen = {id(kernel) for kernel in selection.kernels}
    owners = {id(getattr(layer, "kernel", None)): layer for layer in all_layers(model.model)}
    convolutions, skipped = [], {}
    for path, kernel in model.kernels.items():
        owner = owners.get(id(kernel))
        reason = _reason(owner, id(kernel) in chosen, least_size)
        if reason:
            skipped[path] = reason
        else:
            convolutions.append(owner)
    return convolutions, skipped


def _reason(layer, is_chosen, least_size):
    """Returns why a convolution gets no skip, `None` if it gets one."""
    if type(layer) not in _CONVOLUTIONS:
        return "not the kernel of a Conv1D, Conv2D or Conv3D layer"
    if not is_chosen:
        return "not selected by `include` and `exclude`"
    if max(layer.kernel_size) < least_size:
        return "a 1x1 convolution, which gets a skip only if `include` asks for it"
    if layer.padding not in _PADDINGS and max(layer.kernel_size) > 1:
        return f"padding {layer.padding!r} makes the output smaller than the input"
    return None


def _followers(model, convolutions):
    """Returns a dict of convolutions to the batch normalization that follows, by identity.

    A convolution is left out unless all of its calls are followed by the same normalization,
    which is called nowhere else.
    """
    kinds = (*_CONVOLUTIONS, keras.layers.BatchNormalization)
    calls = trace_calls(model, _inputs(model), kinds)
    behind = {id(layer): [] for layer in convolutions}
    counts = {}
    for call in calls:
        counts[id(call.layer)] = counts.get(id(call.layer), 0) + 1
        source = None if call.follows is None else calls[call.follows].layer
        if isinstance(call.layer, keras.layers.BatchNormalization) and id(source) in behind:
            behind[id(source)].append(call.layer)
    return {
        layer: followers[0]
        for layer, followers in behind.items()
        if len({id(follower) for follower in followers}) == 1
        and len(followers) == counts[layer] == counts[id(followers[0])]
    }


def _inputs(model):
    try:
        return symbolic_inputs(model)
    except ValueError as error:
        raise ValueError(
            "Argument `model` must have inputs of known shapes, to find what follows its "
            f"convolutions. Received: {model.name!r} ({error})"
        ) from error


def _skip(layers, layer, follower):
    index = {id(found): i for i, found in reversed(list(enumerate(layers)))}
    axis = 1 if layer.data_format == "channels_first" else -1
    return {
        "name": layer.name,
        "index": index[id(layer)],
        "after": None if follower is None else index[id(follower)],
        "inputs": int(layer.input_spec.axes[axis]),
        "filters": layer.filters,
        "strides": list(layer.strides),
        "padding": layer.padding,
        "data_format": layer.data_format,
        "dtype": keras.dtype_policies.serialize(layer.dtype_policy),
    }
