"""How often each weight of a kernel is multiplied when its layer is called."""

import math

from keras import layers

_CONV = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_CONV_RECURRENT = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
_CELLS = (layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell)

COUNTED = (
    *(layers.Dense, layers.EinsumDense, layers.Embedding, layers.RNN),
    *(_CONV + _TRANSPOSED + _DEPTHWISE + _SEPARABLE),
)
# Their weights only shift and scale, which the papers' conventions do not count.
LEFT_OUT = (
    layers.BatchNormalization,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.Normalization,
    layers.PReLU,
    layers.RMSNormalization,
)

# Quantizations with which a kernel holds several weights in each number.
PACKED = ("int4", "gptq", "awq")


def kernel_uses(layer, input_shape, output_shape):
    """Counts the multiplications with each weight of a layer's kernels in one call.

    A kernel of `n` weights that are used `u` times takes `n * u` multiply-accumulates.
    Products with padding are included.

    Args:
        layer: A layer of one of the kinds `COUNTED`.
        input_shape: Tuple, the shape of the input, batch included.
        output_shape: Tuple, the shape of the output, batch included.

    Returns:
        List of pairs of a kernel, a Keras variable, and an integer. It is empty for a
        recurrent layer whose cell is not one of Keras' own, and for packed kernels.

    Example:

    >>> dense = keras.layers.Dense(3)
    >>> dense.build((2, 5, 4))
    >>> kernel_uses(dense, (2, 5, 4), (2, 5, 3))
    [(<Variable path=dense.../kernel, shape=(4, 3), ...>, 10)]
    """
    if getattr(layer, "quantization_mode", None) in PACKED:
        return []
    if isinstance(layer, layers.RNN):
        return _recurrent_uses(layer, input_shape, output_shape)
    if isinstance(layer, layers.Embedding):
        uses = _embedding_uses(layer, input_shape, output_shape)
    elif isinstance(layer, layers.Dense):
        uses = {"kernel": math.prod(output_shape[:-1])}
    elif isinstance(layer, layers.EinsumDense):
        uses = {"kernel": _einsum_uses(layer.equation, input_shape)}
    elif isinstance(layer, _TRANSPOSED):
        uses = {"kernel": _positions(layer, input_shape)}
    else:
        # Separable convolutions have the last two of these kernels, the others one of the names.
        names = ("kernel", "depthwise_kernel", "pointwise_kernel")
        uses = dict.fromkeys(names, _positions(layer, output_shape))
    return [(weight, uses[weight.name]) for weight in layer.weights if weight.name in uses]


def same_padded_shape(layer, input_shape, output_shape):
    """Returns the output shape as if a convolution padded its own input to the same size.

    Args:
        layer: A layer of one of the kinds `COUNTED`.
        input_shape: Tuple, the shape of the input, batch included.
        output_shape: Tuple, the shape of the output, returned unchanged for other layers.
    """
    if not isinstance(layer, _CONV + _DEPTHWISE + _SEPARABLE):
        return output_shape
    axes = _spatial_axes(layer, input_shape)
    shape = list(output_shape)
    for axis, stride in zip(axes, layer.strides, strict=True):
        shape[axis] = math.ceil(input_shape[axis] / stride)
    return tuple(shape)


def _recurrent_uses(layer, input_shape, output_shape):
    times = input_shape[0] * input_shape[1]
    if isinstance(layer, _CONV_RECURRENT):
        # The state has the same positions as the output, which may have an axis for the steps.
        rank = len(layer.cell.kernel_size)
        end = len(output_shape) - (layer.data_format == "channels_last")
        times *= math.prod(output_shape[end - rank : end])
    return [
        (weight, times)
        for cell in _cells(layer)
        for weight in cell.weights
        if weight.name in ("kernel", "recurrent_kernel")
    ]


def _embedding_uses(layer, input_shape, output_shape):
    """Returns the uses of an embedding: none for a lookup, else those of `reverse=True`."""
    if len(output_shape) > len(input_shape):
        return {"embeddings": 0}
    tied = getattr(layer, "tie_weights", True)
    return {"embeddings" if tied else "reverse_embeddings": math.prod(output_shape[:-1])}


def _cells(layer):
    """Returns the cells of a recurrent layer, an empty list if one is of an unknown kind."""
    if isinstance(layer, _CONV_RECURRENT):
        return [layer.cell]
    cell = layer.cell
    cells = cell.cells if isinstance(cell, layers.StackedRNNCells) else [cell]
    return cells if all(isinstance(cell, _CELLS) for cell in cells) else []


def _spatial_axes(layer, shape):
    first = 2 if layer.data_format == "channels_first" else 1
    return range(first, first + len(shape) - 2)


def _positions(layer, shape):
    return shape[0] * math.prod(shape[axis] for axis in _spatial_axes(layer, shape))


def _einsum_uses(equation, input_shape):
    """Returns the product of the sizes of the input axes that the kernel does not have."""
    labels, kernel_labels = equation.replace(" ", "").split("->")[0].split(",")
    if labels.startswith("..."):
        labels = labels[3:]
        named = input_shape[len(input_shape) - len(labels) :]
        others = math.prod(input_shape[: len(input_shape) - len(labels)])
    else:
        labels = labels.removesuffix("...")
        named, others = input_shape[: len(labels)], math.prod(input_shape[len(labels) :])
    sizes = zip(labels, named, strict=True)
    return others * math.prod(size for label, size in sizes if label not in kernel_labels)
