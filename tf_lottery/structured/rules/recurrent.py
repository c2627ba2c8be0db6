"""Rules for recurrent layers."""

import keras
import numpy as np

from tf_lottery.structured.rules.base import (
    COMPANION,
    KERNEL,
    NOT_ELEMENTWISE,
    READER,
    Edit,
    Rule,
    Use,
    is_elementwise,
    is_zero_at_zero,
    shrink,
    to_numpy,
)
from tf_lottery.structured.rules.linear import folded, taken


class _Recurrent(Rule):
    """A recurrent layer. Compaction removes inputs, but no units, since its state mixes them.

    With zero columns in all gates and a zero bias, a unit's state stays zero.
    """

    is_shareable = False
    takes_extras = True
    selects_inputs = True

    def misfit(self, node):
        units = node.operation.units
        states = [*node.outputs, *(x for x in node.extras if x.width)]
        return "" if all(x.width == units for x in states) else "its states have other widths"

    def pin(self, layer):
        return "its state mixes its units; inputs can be removed"

    def ties(self, node):
        return []

    def uses(self, node):
        cell, x, y = node.operation.cell, node.inputs[0], node.outputs[0]
        bias = [Use(cell.bias, len(cell.bias.shape) - 1, COMPANION, y)] if cell.use_bias else []
        return [
            Use(cell.kernel, 0, READER, x),
            # The columns of each gate come one gate after the other.
            Use(cell.kernel, 1, KERNEL, y),
            Use(cell.recurrent_kernel, 1, KERNEL, y),
            Use(cell.recurrent_kernel, 0, READER, y),
            *bias,
        ]

    def unions(self, node):
        """Yields the initial and final states, which have the same units."""
        y = node.outputs[0]
        every = np.arange(y.width)
        for state in [*node.outputs[1:], *(x for x in node.extras if x.width)]:
            yield state, every, y, every

    def fixed(self, node):
        cell, y = node.operation.cell, node.outputs[0]
        names = ("activation", "recurrent_activation")
        if not all(is_elementwise(getattr(cell, name, None)) for name in names):
            yield y, NOT_ELEMENTWISE

    def zeros(self, node, inputs):
        cell = node.operation.cell
        is_zero = is_elementwise(cell.activation) and is_zero_at_zero(cell.activation)
        return np.full(node.outputs[0].width, is_zero)

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


RULES = {
    keras.layers.SimpleRNN: _Recurrent(),
    keras.layers.LSTM: _Recurrent(),
    keras.layers.GRU: _Recurrent(),
}
