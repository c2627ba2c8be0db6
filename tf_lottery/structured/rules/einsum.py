"""The rule for dense layers that are given by an equation."""

import keras
import numpy as np

from tf_lottery.structured.rules.base import (
    COMPANION,
    KERNEL,
    READER,
    Edit,
    Use,
    shrink,
    to_numpy,
)
from tf_lottery.structured.rules.elementwise import is_zero_at_zero
from tf_lottery.structured.rules.linear import _Linear, folded, is_changed, taken


class _EinsumDense(_Linear):
    """A dense layer given by an equation, with respect to the last axis of input and output."""

    keeps = "its kernel adds other values at other positions"

    def __init__(self):
        super().__init__("output_shape")

    def misfit(self, node):
        if is_changed(node.operation):
            return "its kernel is quantized or has an adapter"
        reads, kernel, makes = _labels(node.operation)
        is_known = makes in kernel or makes == reads
        if "." in (reads, makes) or not is_known or (reads not in kernel and reads != makes):
            return "it moves its channels to another axis"
        if node.operation.bias is not None and makes not in node.operation.bias_axes:
            return "its bias is shared by its channels"
        return ""

    def left_alone(self, node):
        reads, kernel, makes = _labels(node.operation)
        is_dense = reads != makes and reads in kernel and makes in kernel
        return "" if is_dense else "its channels pass through"

    def ties(self, node):
        reads, _, makes = _labels(node.operation)
        every = np.arange(node.outputs[0].width)
        return [(every, every)] if reads == makes else []

    def unions(self, node):
        for i, o in self.ties(node):
            yield node.inputs[0], i, node.outputs[0], o

    def uses(self, node):
        reads, kernel, makes = _labels(node.operation)
        layer, x, y = node.operation, node.inputs[0], node.outputs[0]
        uses = [Use(layer.kernel, kernel.index(reads), READER, x)] if reads in kernel else []
        if makes in kernel and makes != reads:
            uses.append(Use(layer.kernel, kernel.index(makes), KERNEL, y))
        if layer.bias is not None:
            uses.append(Use(layer.bias, len(layer.bias.shape) - 1, COMPANION, y))
        return uses

    def zeros(self, node, inputs):
        layer = node.operation
        zeros = np.full(node.outputs[0].width, not self.pin(layer))
        for i, o in self.ties(node):
            zeros[o] &= inputs[0][i]
        return zeros & is_zero_at_zero(layer.activation)

    def edit(self, node):
        layer, x, y = node.operation, node.inputs[0], node.outputs[0]
        kernel = shrink(to_numpy(layer.kernel), self.axes_of(layer)[0], taken(node), x.needed)
        kernel = shrink(kernel, self.axes_of(layer)[1], y.kept, y.needed)
        shape = (*layer.partial_output_shape[:-1], int(y.kept.sum()))
        _, gain = self.influence(layer)
        shift = np.where(y.needed, folded(x) @ gain, 0.0)
        config, weights = {"output_shape": shape}, {"kernel": kernel}
        if layer.bias is not None:
            weights["bias"] = shrink(to_numpy(layer.bias) + shift, -1, y.kept, y.needed)
        elif shift.any():
            config["bias_axes"] = _labels(layer)[2]
            weights["bias"] = shift[y.kept]
        return Edit(config, weights)

    def axes_of(self, layer):
        reads, kernel, makes = _labels(layer)
        return kernel.index(reads), kernel.index(makes)

    def constants(self, node):
        values = super().constants(node)
        bias = node.operation.bias
        if bias is not None:
            rows = to_numpy(bias).reshape(-1, bias.shape[-1])
            values[(rows != rows[0]).any(axis=0)] = np.nan
        return values

    def bias(self, layer, gain):
        if layer.bias is None:
            return np.zeros(gain.shape[1])
        # `constants` takes no value from rows that differ.
        return to_numpy(layer.bias).reshape(-1, gain.shape[1])[0]

    def adds_same(self, layer):
        """Returns whether a constant input adds the same value at all output positions."""
        reads, kernel, makes = _labels(layer)
        output = layer.equation.split("->")[1]
        return not any(label in output for label in kernel if label != makes)


def _labels(layer):
    """Returns the label of the input's last axis, those of the kernel, that of the output."""
    operands, output = layer.equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    return inputs[-1], kernel, output[-1]


RULES = {keras.layers.EinsumDense: _EinsumDense()}
