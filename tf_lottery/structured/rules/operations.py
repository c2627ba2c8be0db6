"""Rules for functions of `keras.ops`, and for layers that are written with them."""

import keras
import numpy as np

from tf_lottery.structured.rules import joins
from tf_lottery.structured.rules.base import KERNEL, READER, Rule, Use
from tf_lottery.structured.rules.elementwise import FUNCTIONS, apply, is_zero_at_zero

LEFT_ALONE = "there is no rule to make {name} smaller"


class _Operation(Rule):
    """An operation that compaction leaves alone."""

    def left_alone(self, node):
        return LEFT_ALONE.format(name=type(node.operation).__name__)


class _OtherAxes(Rule):
    """An operation that leaves the last axis as it is.

    Args:
        last_axis: Function of the operation and the rank of its input: whether it changes the
            last axis.
        copies: Whether the entries of a constant channel are that constant also afterwards.
            Defaults to `True`. Zeros are zeros in any case.
    """

    takes_values = True
    keeps = "it does not stay constant"

    def __init__(self, last_axis, copies=True):
        self.last_axis = last_axis
        self.copies = copies

    def misfit(self, node):
        if len({(len(x.shape), x.width) for x in [*node.inputs, node.outputs[0]]}) > 2:
            return "its inputs have different numbers of axes or channels"
        if getattr(node.operation, "initial", None) is not None:
            return "it starts from another value"
        changes = self.last_axis(node.operation, len(node.inputs[0].shape))
        return "it changes the last axis" if changes else ""

    def constants(self, node):
        values = super().constants(node)
        return values if self.copies else np.where(values == 0, 0.0, np.nan)


class _Pad(_OtherAxes):
    """Padding, which brings other values than zero with it only if asked to."""

    def misfit(self, node):
        is_other = any(value is not None and not np.array_equal(value, 0) for value in node.values)
        return "it pads with other values than 0" if is_other else super().misfit(node)


class _Function(Rule):
    """A function of every entry by itself."""

    def zeros(self, node, inputs):
        return inputs[0] & is_zero_at_zero(node.operation)

    def constants(self, node):
        return apply(node.operation, node.inputs[0].constants)


class _Concatenate(Rule):
    """As the layer."""

    def misfit(self, node):
        return joins.CONCATENATE.misfit(node)

    def ties(self, node):
        return joins.CONCATENATE.ties(node)


class _Reshape(_Operation):
    """As the layer."""

    takes_values = True

    def ties(self, node):
        return joins.RESHAPE.ties(node)


class _GetItem(Rule):
    """Indexing, as in `x[:, 0]` or `x[..., 2:]`."""

    takes_values = True

    def left_alone(self, node):
        last = self._last(node)
        return "" if last in (None, slice(None)) else "it picks channels by their positions"

    def misfit(self, node):
        return "" if self._last(node) is not None else "it picks a single channel"

    def ties(self, node):
        chosen = np.arange(node.inputs[0].width)[self._last(node)]
        return [(chosen, np.arange(len(chosen)))]

    def _last(self, node):
        """Returns the slice of the last axis, `None` if it is another kind of index."""
        items = node.values
        before = items[: items.index(Ellipsis)] if Ellipsis in items else items
        after = items[len(before) + 1 :]
        last = after[-1] if after else slice(None)
        # An ellipsis may also stand for no axis, as in `x[:, 2:, ...]` of a matrix.
        if sum(item is not None for item in before) == len(node.inputs[0].shape):
            last = before[-1]
        return last if isinstance(last, slice) else None


class _Split(_Operation):
    """Several outputs: parts of the channels, or all channels at parts of the positions."""

    takes_values = True

    def unions(self, node):
        x = node.inputs[0]
        start = 0
        for y in node.outputs:
            if self._splits_last(node):
                yield x, start + np.arange(y.width), y, np.arange(y.width)
                start += y.width
            else:
                yield x, np.arange(x.width), y, np.arange(x.width)

    def misfit(self, node):
        return ""

    def ties(self, node):
        every = np.arange(node.outputs[0].width)
        return [(every, every)]

    def _splits_last(self, node):
        return node.operation.axis in (-1, len(node.inputs[0].shape) - 1)


class _Divide(Rule):
    """Division of a tensor by a number or a variable."""

    takes_values = True

    def left_alone(self, node):
        is_number = isinstance(node.values[0] if node.values else None, int | float)
        return "" if is_number else "it divides by other values than numbers"

    def constants(self, node):
        return node.inputs[0].constants / np.float64(node.values[0] or np.nan)

    def misfit(self, node):
        fits = node.arguments[:1] == node.inputs
        return "" if fits else "it divides by channels"

    def uses(self, node):
        [value] = node.values
        y = node.outputs[0]
        is_wide = isinstance(value, keras.Variable) and value.shape[-1:] == (y.width,)
        return [Use(value, len(value.shape) - 1, READER, y)] if is_wide else []


class _Matmul(_Operation):
    """The product with a variable, as in a dense layer."""

    takes_values = True
    selects_inputs = True

    def misfit(self, node):
        fits = len(node.inputs) == 1 and node.arguments[:1] == node.inputs
        is_matrix = [isinstance(v, keras.Variable) and len(v.shape) == 2 for v in node.values]
        return "" if fits and is_matrix == [True] else "it mixes its channels"

    def ties(self, node):
        return []

    def uses(self, node):
        [kernel] = node.values
        return [
            Use(kernel, 0, READER, node.inputs[0]),
            Use(kernel, 1, KERNEL, node.outputs[0]),
        ]


def _has_last(axis, rank):
    """Returns whether an argument `axis` names the last axis, or all."""
    axes = [axis] if isinstance(axis, int) else axis
    return axes is None or -1 in axes or rank - 1 in axes


_REDUCTION = _OtherAxes(lambda operation, rank: _has_last(operation.axis, rank))
_INSERTION = _OtherAxes(lambda operation, rank: _has_last(operation.axis, rank + 1))
OPERATIONS = {
    **dict.fromkeys(["Mean", "Max", "Min", "Amax", "Amin", "Flip", "Squeeze"], _REDUCTION),
    **dict.fromkeys(["Repeat", "Roll"], _REDUCTION),
    "Sum": _OtherAxes(lambda operation, rank: _has_last(operation.axis, rank), copies=False),
    **dict.fromkeys(["ExpandDims", "Stack"], _INSERTION),
    **dict.fromkeys(FUNCTIONS, _Function()),
    **dict.fromkeys(["Divide", "TrueDivide"], _Divide()),
    "Concatenate": _Concatenate(),
    "GetItem": _GetItem(),
    "Matmul": _Matmul(),
    "Pad": _Pad(lambda operation, rank: any(operation.pad_width[-1]), copies=False),
    "Reshape": _Reshape(),
    "Split": _Split(),
    "Swapaxes": _OtherAxes(
        lambda operation, rank: _has_last([operation.axis1, operation.axis2], rank)
    ),
    "Transpose": _OtherAxes(
        lambda operation, rank: operation.axes is None or operation.axes[-1] not in (-1, rank - 1)
    ),
}
