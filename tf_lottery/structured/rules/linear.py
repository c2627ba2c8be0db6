"""Rules for layers whose output channels are weighted sums of their input channels."""

import math

import keras
import numpy as np

from tf_lottery.structured.rules.base import (
    NOT_ELEMENTWISE,
    Edit,
    Rule,
    apply,
    is_elementwise,
    shrink,
    to_numpy,
)


class _Linear(Rule):
    """A layer with one kernel: dense layers, convolutions.

    Args:
        units: String, the config entry with the number of outputs.
        axes: Pair of integers, the kernel's input axis and output axis. Defaults to
            `(-2, -1)`.
        is_transposed: Whether it is a transposed convolution. Defaults to `False`.
    """

    is_shareable = False
    is_source = True
    selects_inputs = True
    keeps = "padding surrounds a constant with zeros"

    def __init__(self, units, axes=(-2, -1), is_transposed=False):
        self.units = units
        self.axes = axes
        self.is_transposed = is_transposed

    def misfit(self, node):
        if is_changed(node.operation):
            return "its kernel is quantized or has an adapter"
        if getattr(node.operation, "groups", 1) != 1:
            return "its channels are in groups"
        return ""

    def pin(self, layer):
        return "" if is_elementwise(layer.activation) else NOT_ELEMENTWISE

    def ties(self, node):
        return []

    def constants(self, node):
        layer, x = node.operation, node.inputs[0]
        reach, gain = self.influence(layer)
        if self.pin(layer):
            return np.full(gain.shape[1], np.nan)
        values = self.bias(layer, gain) + np.nan_to_num(x.constants) @ gain
        values[(reach & self._varies(layer, x)[:, None]).any(axis=0)] = np.nan
        return apply(layer.activation, values)

    def needs(self, node):
        x, y = node.inputs[0], node.outputs[0]
        reach, _ = self.influence(node.operation)
        return [reach[:, y.needed].any(axis=1) & self._varies(node.operation, x)]

    def edit(self, node):
        layer, y = node.operation, node.outputs[0]
        _, gain = self.influence(layer)
        shift = folded(node.inputs[0]) @ gain
        config = {self.units: int(y.kept.sum())}
        weights = self.kernels(node)
        if layer.use_bias or shift[y.needed].any():
            config["use_bias"] = True
            weights["bias"] = shrink(self.bias(layer, gain) + shift, 0, y.kept, y.needed)
        return Edit(config, weights)

    def influence(self, layer):
        """Returns how every input channel influences every output channel.

        Args:
            layer: The layer.

        Returns:
            Two arrays of shape `(inputs, outputs)`: whether any weight between the two is not
            zero, and the factor by which a constant input enters the output.
        """
        kernel = to_numpy(layer.kernel)
        kernel = np.moveaxis(kernel, self.axes, (-2, -1))
        kernel = kernel.reshape(-1, *kernel.shape[-2:])
        return (kernel != 0).any(axis=0), kernel.sum(axis=0, dtype="float64")

    def kernels(self, node):
        """Returns a dict of attribute names to the smaller kernels."""
        x, y = node.inputs[0], node.outputs[0]
        kernel = shrink(to_numpy(node.operation.kernel), self.axes[0], taken(node), x.needed)
        return {"kernel": shrink(kernel, self.axes[1], y.kept, y.needed)}

    def bias(self, layer, gain):
        """Returns the bias, zeros if there is none."""
        return to_numpy(layer.bias) if layer.use_bias else np.zeros(gain.shape[1])

    def _varies(self, layer, x):
        """Returns which inputs do not add the same constant at all output positions."""
        if self.is_transposed or has_borders(layer):
            return x.constants != 0  # True for NaN.
        return np.isnan(x.constants)


class _SeparableConv(_Linear):
    """A depthwise convolution and a pointwise one in one layer."""

    def __init__(self):
        super().__init__("filters")

    def influence(self, layer):
        depthwise, pointwise = self._factors(layer)
        spatial = tuple(range(depthwise.ndim - 2))
        paths = (depthwise != 0).any(axis=spatial)[..., None] & (pointwise != 0)
        sums = depthwise.sum(axis=spatial, dtype="float64")
        return paths.any(axis=1), np.einsum("cm,cmo->co", sums, pointwise)

    def kernels(self, node):
        x, y = node.inputs[0], node.outputs[0]
        depthwise, pointwise = self._factors(node.operation)
        pointwise = shrink(pointwise, 0, taken(node), x.needed)
        pointwise = shrink(pointwise, 2, y.kept, y.needed)
        ones = (1,) * (depthwise.ndim - 2)
        return {
            "depthwise_kernel": shrink(depthwise, -2, taken(node), x.needed),
            "pointwise_kernel": pointwise.reshape(*ones, -1, pointwise.shape[-1]),
        }

    def _factors(self, layer):
        depthwise, pointwise = to_numpy(layer.depthwise_kernel), to_numpy(layer.pointwise_kernel)
        return depthwise, pointwise.reshape(*depthwise.shape[-2:], -1)


class _Recurrent(Rule):
    """A recurrent layer. It can lose inputs, but no units, since its state mixes them."""

    is_shareable = False
    takes_extras = True
    selects_inputs = True

    def misfit(self, node):
        return ""

    def pin(self, layer):
        return "its state mixes its units; inputs can be removed"

    def ties(self, node):
        return []

    def constants(self, node):
        return np.full(node.outputs[0].width, np.nan)

    def needs(self, node):
        kernel = to_numpy(node.operation.cell.kernel)
        return [(kernel != 0).any(axis=1) & np.isnan(node.inputs[0].constants)]

    def edit(self, node):
        layer, x = node.operation, node.inputs[0]
        kernel = to_numpy(layer.cell.kernel)
        shift = folded(x) @ kernel
        weights = {
            "cell.kernel": shrink(kernel, 0, taken(node), x.needed),
            "cell.recurrent_kernel": to_numpy(layer.cell.recurrent_kernel),
        }
        if not layer.use_bias and not shift.any():
            return Edit({}, weights)
        bias = np.zeros((2, len(shift)) if getattr(layer, "reset_after", False) else len(shift))
        if layer.use_bias:
            bias += to_numpy(layer.cell.bias)
        # If the bias has two rows, the first is added to the inputs, the second to the state.
        bias[0 if bias.ndim == 2 else slice(None)] += shift
        return Edit({"use_bias": True}, {**weights, "cell.bias": bias})


class _Embedding(Rule):
    """A table of vectors, which can lose columns."""

    is_shareable = False
    is_source = True
    reads_channels = False

    def misfit(self, node):
        return "its table is quantized or has an adapter" if is_changed(node.operation) else ""

    def ties(self, node):
        return []

    def constants(self, node):
        table = to_numpy(node.operation.embeddings)
        return np.where((table == table[0]).all(axis=0), table[0], np.nan)

    def needs(self, node):
        return [np.ones(x.width, bool) for x in node.inputs]

    def edit(self, node):
        y = node.outputs[0]
        table = shrink(to_numpy(node.operation.embeddings), 1, y.kept, y.needed)
        return Edit({"output_dim": int(y.kept.sum())}, {"embeddings": table})


def taken(node):
    """Returns which of its input channels a layer has in the smaller model."""
    return node.inputs[0].kept if node.gathered is None else node.gathered


def folded(x):
    """Returns the constants that are added to a bias, zeros for all other channels."""
    return np.where(x.needed | np.isnan(x.constants), 0.0, x.constants)


def has_borders(layer):
    """Returns whether a convolution reads zeros of its own padding."""
    if not hasattr(layer, "kernel_size"):
        return False
    # A kernel of size 1, as in a pointwise convolution, never reads padding.
    return layer.padding != "valid" and math.prod(layer.kernel_size) > 1


def is_changed(layer):
    """Returns whether Keras quantized a layer or gave it an adapter."""
    quantized = getattr(layer, "quantization_mode", None) is not None
    return quantized or bool(getattr(layer, "lora_enabled", False))


RULES = {
    keras.layers.Dense: _Linear("units"),
    keras.layers.Conv1D: _Linear("filters"),
    keras.layers.Conv2D: _Linear("filters"),
    keras.layers.Conv3D: _Linear("filters"),
    keras.layers.Conv1DTranspose: _Linear("filters", (-1, -2), is_transposed=True),
    keras.layers.Conv2DTranspose: _Linear("filters", (-1, -2), is_transposed=True),
    keras.layers.Conv3DTranspose: _Linear("filters", (-1, -2), is_transposed=True),
    keras.layers.SeparableConv1D: _SeparableConv(),
    keras.layers.SeparableConv2D: _SeparableConv(),
    keras.layers.SimpleRNN: _Recurrent(),
    keras.layers.LSTM: _Recurrent(),
    keras.layers.GRU: _Recurrent(),
    keras.layers.Embedding: _Embedding(),
}
