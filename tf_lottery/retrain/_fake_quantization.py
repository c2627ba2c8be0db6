"""Train with the rounding of a full int8 file, and remove it."""

import collections

import keras

from tf_lottery import _keras
from tf_lottery.checks import fraction
from tf_lottery.layers.fake_quantization import FakeQuantization
from tf_lottery.layers.soft_activations import max_value_of
from tf_lottery.model import SparseModel, check_settled
from tf_lottery.structured.graph import Graph
from tf_lottery.tweaks import add_tweak, remove_tweak

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
# The attributes of the kernels of a layer, and the axes of their output channels.
KERNELS = {
    keras.layers.Dense: {"kernel": [-1]},
    **dict.fromkeys(_CONVOLUTIONS, {"kernel": [-1]}),
    **dict.fromkeys(_TRANSPOSED, {"kernel": [-2]}),
    **dict.fromkeys(_DEPTHWISE, {"kernel": [-2, -1]}),
    **dict.fromkeys(_SEPARABLE, {"depthwise_kernel": [-2, -1], "pointwise_kernel": [-1]}),
}
# A file gives the outputs of these layers the steps of their inputs.
_SAME_STEPS = (
    *(
        getattr(keras.layers, f"{name}{dimensions}D")
        for name in ("MaxPooling", "AveragePooling", "GlobalMaxPooling", "ZeroPadding", "Cropping")
        for dimensions in (1, 2, 3)
    ),
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.Embedding,
    keras.layers.Flatten,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.Permute,
    keras.layers.RepeatVector,
    keras.layers.Reshape,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.UpSampling1D,
    keras.layers.UpSampling2D,
)
# The runtime computes these with fixed steps, finer than any range that could be tracked.
_FIXED_STEPS = (
    keras.activations.softmax,
    keras.activations.sigmoid,
    keras.activations.tanh,
)
# Rectifiers with these limits are computed together with the layer before them.
_FUSED_LIMITS = (None, 6)
_LINEAR = keras.activations.linear


def fake_quantization(model: SparseModel, momentum: float = 0.99) -> FakeQuantization:
    """Rounds weights and activations while a sparse model retrains, as a full int8 file will.

    This is quantization-aware training, as in "Quantization and Training of Neural Networks for
    Efficient Integer-Arithmetic-Only Inference" (arXiv:1712.05877): the forward pass rounds,
    gradients pass through the rounding unchanged. Train for a few epochs at a low learning
    rate. Then `tfl.export_tflite(model, path, quantize="int8", representative_data=x)` writes a
    file with the tracked ranges, and compares it with the rounded model.

    Kernels of dense and convolutional layers get 255 symmetric steps per output channel, in
    which 0 is 0, so that pruned weights stay exactly zero. Inputs and activations get 256 steps
    between moving averages of the smallest and largest value of a training batch. Values are
    rounded where the file has a tensor: not between a convolution, the batch normalization after
    it and a rectifier, which the file computes at once. Rounding per output channel commutes with
    the factors of batch normalization, so no layer has to be folded while it trains.

    Values between other operations, such as `x + y` in the code of a model, are not rounded in
    training; the export measures their ranges as without this tweak. `tfl.strip` returns the
    model without rounding.

    Args:
        model: A `SparseModel` with final masks. Its wrapped model is not changed.
        momentum: Float in [0, 1), of the moving averages of the ranges. After `n` batches it
            is at most `n / (n + 9)`. Defaults to `0.99`.

    Returns:
        The part `FakeQuantization` of the model, with a list `layer_names` of the layers whose
        kernels it rounds.

    Raises:
        ValueError: If an argument is outside its range, the masks are still being learned, the
            model has no dense or convolutional layers, its calls cannot be traced, or it has
            fake quantization already.

    Example:

    >>> tfl.retrain.fake_quantization(sparse).layer_names
    ['hidden', 'output']
    >>> sparse.compile("adam", loss)
    >>> history = sparse.fit(x, y, verbose=0)
    """
    check_settled(model)
    fraction("momentum", momentum)
    inputs, targets = find_targets(model.model)
    if not any(target["kernels"] for target in targets):
        raise ValueError(
            "Argument `model` must have dense or convolutional layers. "
            f"Received: {model.name!r}, which has none"
        )
    return add_tweak(model, FakeQuantization(inputs, targets, momentum))


def remove_fake_quantization(model: SparseModel) -> None:
    """Removes the rounding of weights and activations from a sparse model.

    Args:
        model: A `SparseModel`. It computes in full precision again, with the weights as they
            were trained. Nothing happens if it has no fake quantization.

    Raises:
        ValueError: If `model` is not a `SparseModel`.

    Example:

    >>> tweak = tfl.retrain.fake_quantization(sparse)
    >>> tfl.retrain.remove_fake_quantization(sparse)
    """
    remove_tweak(model, FakeQuantization)


def find_targets(model):
    """Finds the inputs and layers of a model that a full int8 file rounds.

    Args:
        model: A built `keras.Model`.

    Returns:
        List of the positions of inputs, and list of dicts, as `FakeQuantization` takes them.

    Raises:
        ValueError: If the calls of the model cannot be traced.
    """
    graph = Graph(model, _has_layers)
    inputs = [i for i, x in enumerate(graph.inputs) if _is_float(x)]
    unrounded = _fused(graph)
    for node in graph.nodes:
        if len(node.outputs) != 1 or not _is_float(node.outputs[0]):
            unrounded.add(id(node.operation))
    left, targets = {id(node.operation) for node in graph.nodes}, []
    for index, layer in enumerate(_keras.all_layers(model)):
        if id(layer) in left:
            left.remove(id(layer))
            target = _target(layer, index, id(layer) in unrounded)
            if target["kernels"] or target["after"]:
                targets.append(target)
    return inputs, targets


def _is_float(channels):
    return keras.backend.is_float_dtype(channels.dtype)


def _has_layers(operation):
    """Returns whether the calls inside a layer are rounded one by one."""
    if not isinstance(operation, keras.Layer) or isinstance(operation, keras.layers.RNN):
        return False
    return len(_keras.all_layers(operation)) > 1


def _target(layer, index, is_unrounded):
    activation = vars(layer).get("activation", _LINEAR)
    kernels = KERNELS.get(type(layer), {})
    if not all(isinstance(getattr(layer, name), keras.Variable) for name in kernels):
        kernels = {}
    at_once = activation is _LINEAR or max_value_of(activation) in _FUSED_LIMITS
    has_fixed_steps = activation in _FIXED_STEPS or type(layer) is keras.layers.Softmax
    is_same = type(layer) in _SAME_STEPS or (
        type(layer) is keras.layers.Activation and activation is _LINEAR
    )
    return {
        "name": layer.name,
        "index": index,
        "kernels": {name: list(axes) for name, axes in kernels.items()},
        "before": bool(kernels) and not at_once,
        "after": not (is_unrounded or is_same or has_fixed_steps),
    }


def _fused(graph):
    """Returns the ids of the layers that a file computes together with the next one."""
    readers = collections.Counter(
        id(x) for node in graph.nodes for x in (*node.inputs, *node.extras)
    )
    readers.update(id(x) for x in graph.outputs)
    makers = {id(x): node.operation for node in graph.nodes for x in node.outputs}
    fused = set()
    for node in graph.nodes:
        for x in node.inputs:
            maker = makers.get(id(x))
            if maker is not None and readers[id(x)] == 1 and _joins(maker, node.operation):
                fused.add(id(maker))
    return fused


def _joins(first, second):
    """Returns whether a file computes a call and the next one in a single step."""
    if vars(first).get("activation", _LINEAR) is not _LINEAR or type(first) in _SAME_STEPS:
        return False
    if type(second) is keras.layers.BatchNormalization:
        return type(first) in KERNELS
    if _keras.is_operation_of_ops(second):
        return type(second).__name__ in ("Relu", "Relu6")
    is_activation = type(second) is keras.layers.Activation
    return max_value_of(second.activation if is_activation else second) in _FUSED_LIMITS
