"""Layers as matrix products: every output unit is a weighted sum of the inputs in a row."""

import math

import keras
import numpy as np
from keras import layers, ops

_CONV = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
NOT_SUPPORTED = "{kind} is not a matrix product that is computed once for every input"
SUMMED_APART = "its equation {equation!r} sums over axes that the kernel does not have"


class LayerMatrix:
    """The product of a layer, in the form of matrices, here of a `Dense` layer.

    The layer computes `rows @ matrix + bias`, for every group of its channels. A subclass
    overrides the methods that differ.

    Args:
        layer: The built `keras.Layer`.
        kernel: Its variable.

    Attributes:
        bias: The variable with one value for every output unit, or `None` if there is none.

    Example:

    >>> layer = keras.layers.Dense(3)
    >>> layer.build((None, 4))
    >>> matrix = LayerMatrix(layer, layer.kernel)
    >>> matrix.rows(np.ones((2, 5, 4))).shape, matrix.split(layer.kernel.numpy()).shape
    ((1, 10, 4), (1, 4, 3))
    """

    groups = 1

    def __init__(self, layer, kernel):
        self.layer = layer
        self.kernel = kernel
        self.bias = getattr(layer, "bias", None)

    def rows(self, inputs):
        """Returns the inputs of the sums, an array (groups, sums, inputs).

        Called inside the call of the layer, where its other weights may have replacements.

        Args:
            inputs: The layer's input, a tensor.
        """
        inputs = _to_numpy(inputs)
        return inputs.reshape(1, -1, inputs.shape[-1])

    def split(self, array):
        """Returns an array of the kernel's shape as matrices (groups, inputs, units)."""
        return array.reshape(1, -1, array.shape[-1])

    def join(self, matrices):
        """Returns matrices (groups, inputs, units) as an array of the kernel's shape."""
        return matrices.reshape(self.kernel.shape)

    def split_bias(self, array):
        """Returns an array of the bias's shape as (groups, 1, units)."""
        return array.reshape(self.groups, 1, -1)

    def join_bias(self, array):
        """Returns an array (groups, 1, units) in the bias's shape."""
        return array.reshape(self.bias.shape)


class ConvolutionMatrix(LayerMatrix):
    """The product of a convolution: a row holds the inputs under the kernel at one position."""

    def __init__(self, layer, kernel):
        super().__init__(layer, kernel)
        self.groups = layer.groups

    def rows(self, inputs):
        """Returns the inputs under the kernel, for every group of channels."""
        layer = self.layer
        x = _to_numpy(inputs)
        if layer.data_format == "channels_first":
            x = np.moveaxis(x, 1, -1)
        axes = tuple(range(1, x.ndim - 1))
        spans = [
            d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)
        ]
        x = np.pad(x, [(0, 0), *self._padding(x.shape[1:-1], spans), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(x, spans, axis=axes)
        steps = [slice(None, None, s) for s in (*layer.strides, 1, *layer.dilation_rate)]
        windows = windows[(slice(None), *steps)]
        # From (examples, positions, channels, window) to (groups, positions, window, channels).
        windows = np.moveaxis(windows, len(axes) + 1, -1)
        inputs_of_group = windows.shape[-1] // self.groups
        windows = windows.reshape(-1, math.prod(layer.kernel_size), self.groups, inputs_of_group)
        return windows.transpose(2, 0, 1, 3).reshape(self.groups, len(windows), -1)

    def _padding(self, sizes, spans):
        if self.layer.padding == "causal":
            return [(span - 1, 0) for span in spans]
        if self.layer.padding == "valid":
            return [(0, 0)] * len(spans)
        pads = []
        for size, span, stride in zip(sizes, spans, self.layer.strides, strict=True):
            total = max((math.ceil(size / stride) - 1) * stride + span - size, 0)
            pads.append((total // 2, total - total // 2))
        return pads

    def split(self, array):
        """Returns one matrix for every group of filters."""
        units = array.shape[-1] // self.groups
        return array.reshape(-1, self.groups, units).transpose(1, 0, 2)

    def join(self, matrices):
        """Undoes `split`."""
        return matrices.transpose(1, 0, 2).reshape(self.kernel.shape)


class PointwiseMatrix(LayerMatrix):
    """The product with the pointwise kernel of a separable convolution."""

    def rows(self, inputs):
        """Returns the outputs of the depthwise convolution, whose kernel stays as it is."""
        layer = self.layer
        x = ops.depthwise_conv(
            inputs,
            ops.cast(layer.depthwise_kernel, inputs.dtype),
            strides=layer.strides,
            padding=layer.padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )
        if layer.data_format == "channels_first":
            x = ops.moveaxis(x, 1, -1)
        return super().rows(x)


class EinsumMatrix(LayerMatrix):
    """The product of `EinsumDense`, which attention uses for its projections.

    Kernel axes that are also in the inputs and in the outputs make groups.
    """

    def __init__(self, layer, kernel):
        super().__init__(layer, kernel)
        operands, outputs = layer.equation.replace(" ", "").split("->")
        self._inputs, self._axes = operands.split(",")
        self._summed = [a for a in self._axes if a not in outputs]
        self._grouped = [a for a in self._axes if a in outputs and a in self._inputs]
        self._units = [a for a in self._axes if a in outputs and a not in self._inputs]
        self._outputs = outputs
        sizes = dict(zip(self._axes, kernel.shape, strict=True))
        self._sizes = [[sizes[a] for a in axes] for axes in self._order]
        self.groups = math.prod(self._sizes[0])
        if self._grouped or [a for a in outputs if a in (layer.bias_axes or "")] != self._units:
            # A bias that several units share, or that differs from row to row, stays as it is.
            self.bias = None

    @property
    def _order(self):
        return self._grouped, self._summed, self._units

    def problem(self):
        """Returns why the layer has no such form, or an empty string if it has one."""
        named = set(self._inputs + self._outputs)
        apart = [a for a in self._inputs if a not in self._axes and a not in self._outputs]
        if apart or not set(self._axes) <= named or not set(self._summed) <= set(self._inputs):
            return SUMMED_APART.format(equation=self.layer.equation)
        return ""

    def rows(self, inputs):
        """Returns the axes that are summed as the last one, and those of groups as the first."""
        x = _to_numpy(inputs)
        names = self._inputs
        if "..." in names:
            # Axes without names get numbers.
            count = x.ndim - len(names) + 3
            before, after = names.split("...")
            names = [*before, *range(count), *after]
        others = [a for a in names if a not in self._grouped + self._summed]
        order = [*self._grouped, *others, *self._summed]
        x = x.transpose([list(names).index(a) for a in order])
        return x.reshape(self.groups, -1, math.prod(self._sizes[1]))

    def split(self, array):
        """Returns one matrix for every position of the axes that make groups."""
        order = [a for axes in self._order for a in axes]
        array = array.transpose([self._axes.index(a) for a in order])
        return array.reshape([math.prod(sizes) for sizes in self._sizes])

    def join(self, matrices):
        """Undoes `split`."""
        order = [a for axes in self._order for a in axes]
        array = matrices.reshape([size for sizes in self._sizes for size in sizes])
        return array.transpose([order.index(a) for a in self._axes])


def layer_matrix(layer, kernel):
    """Returns the product of a layer as a `LayerMatrix`, or a string: why there is none.

    Args:
        layer: The built `keras.Layer` that owns the kernel.
        kernel: Keras variable.

    Example:

    >>> layer = keras.layers.Embedding(10, 4)
    >>> layer.build()
    >>> layer_matrix(layer, layer.embeddings)
    'Embedding is not a matrix product that is computed once for every input'
    """
    if isinstance(layer, layers.EinsumDense) and kernel.name == "kernel":
        matrix = EinsumMatrix(layer, kernel)
        return matrix.problem() or matrix
    if isinstance(layer, layers.Dense) and kernel.name == "kernel":
        return LayerMatrix(layer, kernel)
    if isinstance(layer, _CONV) and kernel.name == "kernel":
        return ConvolutionMatrix(layer, kernel)
    if isinstance(layer, _SEPARABLE) and kernel.name == "pointwise_kernel":
        return PointwiseMatrix(layer, kernel)
    name = type(layer).__name__ + (f" with {kernel.name!r}" if kernel.name != "kernel" else "")
    return NOT_SUPPORTED.format(kind=name.removesuffix(" with 'embeddings'"))


def _to_numpy(tensor):
    array = keras.ops.convert_to_numpy(tensor)
    # NumPy has no fast products of half precision.
    return array if array.dtype == "float64" else array.astype("float32")
