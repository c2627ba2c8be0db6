"""Rules for recurrent layers."""

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
    is_elementwise,
    is_zero_at_zero,
)
from tf_lottery.structured.rules.linear import folded, taken


class _Recurrent(Rule):
    """A recurrent layer, whose units read each other.

    A unit's state stays zero if its candidate state does: if it starts at zero, and the columns
    and the bias of the candidate are zero. Other gates only multiply it.

    Args:
        gates: Integer, the number of blocks of columns in the kernels, one after the other.
        candidate: Integer, the block of the candidate state.
    """

    is_shareable = False
    takes_extras = True
    is_source = True
    selects_inputs = True

    def __init__(self, gates, candidate):
        self.gates = gates
        self.candidate = candidate

    def misfit(self, node):
        units = node.operation.units
        states = [*node.outputs, *_initial_states(node)]
        return "" if all(x.width == units for x in states) else "its states have other widths"

    def pin(self, layer):
        names = ("activation", "recurrent_activation")
        functions = [getattr(layer.cell, name, None) for name in names]
        return "" if all(map(is_elementwise, functions)) else NOT_ELEMENTWISE

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
        for state in [*node.outputs[1:], *_initial_states(node)]:
            yield state, every, y, every

    def fixed(self, node):
        pin = self.pin(node.operation)
        if pin:
            yield node.outputs[0], pin

    def zeros(self, node, inputs):
        cell = node.operation.cell
        is_zero = is_elementwise(cell.activation) and is_zero_at_zero(cell.activation)
        return np.full(node.outputs[0].width, is_zero)

    def constants(self, node):
        layer, x = node.operation, node.inputs[0]
        kernel = self._blocks(to_numpy(layer.cell.kernel))[:, self.candidate]
        recurrent = self._blocks(to_numpy(layer.cell.recurrent_kernel))[:, self.candidate]
        bias = self._blocks(_bias(layer))[:, self.candidate]
        bias[0] += np.nan_to_num(x.constants) @ kernel
        varies = (kernel[np.isnan(x.constants)] != 0).any(axis=0)
        zero = self.zeros(node, []) & ~varies & (bias == 0).all(axis=0)
        for state in _initial_states(node):
            zero &= state.constants == 0
        while (zero & (recurrent[~zero] != 0).any(axis=0)).any():
            zero &= (recurrent[~zero] == 0).all(axis=0)
        return np.where(zero, 0.0, np.nan)

    def needed_outputs(self, node):
        y = node.outputs[0]
        recurrent = self._blocks(to_numpy(node.operation.cell.recurrent_kernel))
        reads = (recurrent != 0).any(axis=1) & np.isnan(y.constants)[:, None]
        needed = np.logical_or.reduce([x.needed for x in node.outputs])
        while (reads[:, needed].any(axis=1) & ~needed).any():
            needed = needed | reads[:, needed].any(axis=1)
        return needed

    def needs(self, node):
        x, y = node.inputs[0], node.outputs[0]
        kernel = self._blocks(to_numpy(node.operation.cell.kernel))[..., y.needed]
        # Masks have no channels.
        states = [y.needed if x.width else np.zeros(0, bool) for x in node.extras]
        return [(kernel != 0).any(axis=(1, 2)) & np.isnan(x.constants), *states]

    def edit(self, node):
        layer, x, y = node.operation, node.inputs[0], node.outputs[0]
        kernel, bias = to_numpy(layer.cell.kernel), _bias(layer)
        # If the bias has two rows, the first is added to the inputs, the second to the state.
        bias[0] += folded(x) @ kernel
        bias = self._shrunk(bias, y)
        recurrent = shrink(to_numpy(layer.cell.recurrent_kernel), 0, y.kept, y.needed)
        config = {"units": int(y.kept.sum())}
        weights = {
            "cell.kernel": self._shrunk(shrink(kernel, 0, taken(node), x.needed), y),
            "cell.recurrent_kernel": self._shrunk(recurrent, y),
        }
        if layer.use_bias or bias.any():
            config["use_bias"] = True
            weights["cell.bias"] = bias if _has_two_biases(layer) else bias[0]
        return Edit(config, weights)

    def _blocks(self, matrix):
        """Returns a matrix in shape `(rows, gates, units)`."""
        return matrix.reshape(len(matrix), self.gates, -1)

    def _shrunk(self, matrix, y):
        """Returns a matrix with the columns of the kept units."""
        return shrink(self._blocks(matrix), 2, y.kept, y.needed).reshape(len(matrix), -1)


def _initial_states(node):
    """Returns the `Channels` of the initial states, an empty list if they are zero."""
    return [x for x in node.extras if x.width]


def _has_two_biases(layer):
    return bool(getattr(layer, "reset_after", False))


def _bias(layer):
    """Returns the bias as a new matrix of one or two rows, zeros if there is none."""
    columns = layer.cell.kernel.shape[1]
    bias = np.zeros((2 if _has_two_biases(layer) else 1, columns))
    return bias + to_numpy(layer.cell.bias) if layer.use_bias else bias


RULES = {
    keras.layers.SimpleRNN: _Recurrent(gates=1, candidate=0),
    keras.layers.LSTM: _Recurrent(gates=4, candidate=2),
    keras.layers.GRU: _Recurrent(gates=3, candidate=2),
}
