"""Rules for layers whose output channels are weighted sums of their input channels."""

import math

import keras
import numpy as np

from tf_lottery.structured.rules.base import (
    COMPANION,
    KERNEL,
    READER,
    Edit,
    Rule,
    Use,
    shrink,
    to_numpy,
)
from tf_lottery.structured.rules.elementwise import (
    NOT_ELEMENTWISE,
    apply,
    is_elementwise,
    is_zero_at_zero,
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
        return "its kernel is quantized or has an adapter" if is_changed(node.operation) else ""

    def gathers(self, node):
        return _num_groups(node.operation) == 1

    def pin(self, layer):
        return "" if is_elementwise(layer.activation) else NOT_ELEMENTWISE

    def ties(self, node):
        return []

    def uses(self, node):
        layer, x, y = node.operation, node.inputs[0], node.outputs[0]
        reads, makes = (axis % len(layer.kernel.shape) for axis in self.axes)
        size, every = layer.kernel.shape[reads], np.arange(x.width)
        if _num_groups(layer) == x.width > 1:  # It is depthwise.
            return [Use(layer.kernel, makes, READER, y), *bias_use(layer, y)]
        return [
            Use(layer.kernel, reads, READER, x, every % size, every),
            Use(layer.kernel, makes, KERNEL, y),
            *bias_use(layer, y),
        ]

    def unions(self, node):
        """Yields the channels of a grouped convolution that belong together.

        All groups of the convolution must keep as many channels. So the first channels of all
        groups belong together, and so on, of the inputs and of the outputs. A group with a
        single input belongs to that input.
        """
        groups, x, y = _num_groups(node.operation), node.inputs[0], node.outputs[0]
        if groups == 1:
            return
        if groups == x.width:
            every = np.arange(y.width)
            yield x, every // (y.width // groups), y, every
        else:
            for tensor in (x, y):
                every = np.arange(tensor.width)
                yield tensor, every, tensor, every % (tensor.width // groups)

    def zeros(self, node, inputs):
        layer = node.operation
        is_zero = not self.pin(layer) and is_zero_at_zero(layer.activation)
        zeros = np.full(node.outputs[0].width, is_zero)
        for _, i, _, o in self.unions(node) if _num_groups(layer) == len(inputs[0]) > 1 else ():
            zeros[o] &= inputs[0][i]
        return zeros

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
        if _num_groups(layer) == node.inputs[0].width > 1:
            config["groups"] = int(node.inputs[0].kept.sum())
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
        kernel = np.moveaxis(kernel, self.axes_of(layer), (-2, -1))
        kernel = _ungrouped(kernel.reshape(-1, *kernel.shape[-2:]), _num_groups(layer))
        return (kernel != 0).any(axis=0), kernel.sum(axis=0, dtype="float64")

    def axes_of(self, layer):
        """Returns the input axis and the output axis of a layer's kernel."""
        return self.axes

    def adds_same(self, layer):
        """Returns whether a constant input adds the same value at all output positions."""
        return not self.is_transposed and not has_borders(layer)

    def kernels(self, node):
        """Returns a dict of attribute names to the smaller kernels."""
        x, y = node.inputs[0], node.outputs[0]
        kernel, groups = to_numpy(node.operation.kernel), _num_groups(node.operation)
        if groups == 1:
            kernel = shrink(kernel, self.axes[0], taken(node), x.needed)
        else:
            needed = x.needed.reshape(groups, -1).T.repeat(y.width // groups, axis=1)
            # All groups keep the same inputs, unless there is only one in each.
            kept = x.kept.reshape(groups, -1).any(axis=0)
            kernel = np.where(needed, kernel, 0.0).astype(kernel.dtype)[..., kept, :]
        return {"kernel": shrink(kernel, self.axes[1], y.kept, y.needed)}

    def bias(self, layer, gain):
        """Returns the bias, zeros if there is none."""
        return to_numpy(layer.bias) if layer.use_bias else np.zeros(gain.shape[1])

    def _varies(self, layer, x):
        """Returns which inputs do not add the same constant at all output positions."""
        # NaN is not zero.
        return np.isnan(x.constants) if self.adds_same(layer) else x.constants != 0


class _SeparableConv(_Linear):
    """A depthwise convolution and a pointwise one in one layer."""

    def __init__(self):
        super().__init__("filters")

    def uses(self, node):
        layer, x, y = node.operation, node.inputs[0], node.outputs[0]
        depthwise, pointwise = layer.depthwise_kernel, layer.pointwise_kernel
        middle = np.arange(pointwise.shape[-2])
        owners, last = middle // layer.depth_multiplier, len(pointwise.shape) - 1
        return [
            Use(depthwise, last - 1, READER, x),
            Use(pointwise, last - 1, READER, x, middle, owners),
            Use(pointwise, last, KERNEL, y),
            *bias_use(layer, y),
        ]

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


class _Embedding(Rule):
    """A table of vectors, which can lose columns."""

    is_shareable = False
    is_source = True
    reads_channels = False

    def misfit(self, node):
        return "its table is quantized or has an adapter" if is_changed(node.operation) else ""

    def ties(self, node):
        return []

    def uses(self, node):
        return [Use(node.operation.embeddings, 1, KERNEL, node.outputs[0])]

    def constants(self, node):
        table = to_numpy(node.operation.embeddings)
        return np.where((table == table[0]).all(axis=0), table[0], np.nan)

    def needs(self, node):
        return [np.ones(x.width, bool) for x in node.inputs]

    def edit(self, node):
        y = node.outputs[0]
        table = shrink(to_numpy(node.operation.embeddings), 1, y.kept, y.needed)
        return Edit({"output_dim": int(y.kept.sum())}, {"embeddings": table})


def bias_use(layer, y):
    """Returns the `Use` of a layer's bias in a list, which is empty if there is none."""
    return [Use(layer.bias, 0, COMPANION, y)] if layer.use_bias else []


def _num_groups(layer):
    return getattr(layer, "groups", 1)


def _ungrouped(kernel, groups):
    """Returns the kernel of a grouped convolution with zeros between the groups.

    Args:
        kernel: Array of shape `(positions, inputs of a group, outputs)`.
        groups: Integer.
    """
    if groups == 1:
        return kernel
    positions, inputs, outputs = kernel.shape
    whole = np.zeros((positions, groups, inputs, outputs), kernel.dtype)
    every = np.arange(outputs)
    whole[:, every // (outputs // groups), :, every] = kernel.transpose(2, 0, 1)
    return whole.reshape(positions, groups * inputs, outputs)


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
    keras.layers.Embedding: _Embedding(),
}
