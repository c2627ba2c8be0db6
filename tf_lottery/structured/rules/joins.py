"""Rules for layers that join tensors or rearrange their channels."""

import keras
import numpy as np

from tf_lottery.structured.rules.base import COMPANION, READER, Edit, Rule, Use


class _Merge(Rule):
    """Combines the same channel of several tensors.

    Args:
        combine: Function of a list of arrays to an array. NaN must stay NaN.
    """

    takes_values = True
    keeps = "it is joined with a channel that varies"

    def __init__(self, combine):
        self.combine = combine

    def misfit(self, node):
        kinds = {(len(x.shape), x.width) for x in node.inputs}
        if len(kinds) != 1:
            return "its inputs have different numbers of axes or channels"
        widths = {_width(value) for value in node.values}
        fits = widths <= {0, 1, node.inputs[0].width}
        return "" if fits else "it joins the channels with values of another shape"

    def uses(self, node):
        y = node.outputs[0]
        # A product with zero is zero; what is added must be zero, too.
        role = READER if self.combine is _product else COMPANION
        return [
            Use(value, len(value.shape) - 1, role, y)
            for value in node.values
            if isinstance(value, keras.Variable) and _width(value) == y.width
        ]

    def zeros(self, node, inputs):
        values = [self._value_beside_zero(node, value) for value in node.values]
        arrays = [np.where(zero, 0.0, np.nan) for zero in inputs]
        return self.combine([*arrays, *values]) == 0

    def _value_beside_zero(self, node, value):
        """Returns an array of a number, of 0 for a companion, and of NaN for others."""
        number = np.nan
        if isinstance(value, int | float):
            number = value
        elif isinstance(value, keras.Variable) and _width(value) == node.outputs[0].width:
            number = 0.0
        return np.full(node.outputs[0].width, number)

    def left_alone(self, node):
        is_number = [isinstance(value, int | float) for value in node.values]
        return "" if all(is_number) else "it is called with other values than tensors and numbers"

    def constants(self, node):
        width = node.outputs[0].width
        given = [
            np.full(width, x, float) if isinstance(x, int | float) else x.constants
            for x in node.arguments
        ]
        return self.combine(given)


class _Concatenate(Rule):
    """Concatenation along the last axis."""

    def misfit(self, node):
        ranks = {len(x.shape) for x in node.inputs}
        is_last = len(ranks) == 1 and node.operation.axis in (-1, *(rank - 1 for rank in ranks))
        return "" if is_last else "it joins another axis than the last"

    def ties(self, node):
        widths = [x.width for x in node.inputs]
        starts = np.cumsum([0, *widths[:-1]])
        return [
            (np.arange(n), np.arange(n) + start) for n, start in zip(widths, starts, strict=True)
        ]


class _Reshape(Rule):
    """`Flatten` and `Reshape`.

    The channel of an entry is its position in memory modulo the number of channels.
    """

    # The config of `Reshape` can have the number of channels.
    is_shareable = False
    keeps = "it becomes one channel with others"

    def ties(self, node):
        inputs, outputs = node.inputs[0].width, node.outputs[0].width
        if not inputs or not outputs or max(inputs, outputs) % min(inputs, outputs):
            return None
        every = np.arange(max(inputs, outputs))
        return [(every % inputs, every % outputs)]

    def edit(self, node):
        target = getattr(node.operation, "target_shape", None)
        if target is None or target[-1] == -1:
            return Edit()
        return Edit({"target_shape": (*target[:-1], int(node.outputs[0].kept.sum()))})


class _Permute(Rule):
    """Axes in another order; the last one stays last."""

    def misfit(self, node):
        last = len(node.inputs[0].shape) - 1
        return "" if node.operation.dims[-1] == last else "it moves the last axis"


def _width(value):
    """Returns the length of a value's last axis, 0 for a number and -1 for anything else."""
    if isinstance(value, int | float):
        return 0
    shape = getattr(value, "shape", None)
    return -1 if shape is None else (shape[-1] if len(shape) else 0)


def _product(arrays):
    # A constant zero makes the product zero, whatever the other factors are.
    return np.where((np.stack(arrays) == 0).any(axis=0), 0.0, np.prod(arrays, axis=0))


CONCATENATE, RESHAPE = _Concatenate(), _Reshape()
ADD, SUBTRACT = _Merge(sum), _Merge(lambda arrays: np.subtract(*arrays))
MAXIMUM, MINIMUM = _Merge(np.maximum.reduce), _Merge(np.minimum.reduce)
MULTIPLY = _Merge(_product)
RULES = {
    keras.layers.Add: ADD,
    keras.layers.Subtract: SUBTRACT,
    keras.layers.Average: _Merge(lambda arrays: np.mean(arrays, axis=0)),
    keras.layers.Maximum: MAXIMUM,
    keras.layers.Minimum: MINIMUM,
    keras.layers.Multiply: MULTIPLY,
    keras.layers.Concatenate: CONCATENATE,
    keras.layers.Flatten: RESHAPE,
    keras.layers.Reshape: RESHAPE,
    keras.layers.Permute: _Permute(),
}
# Operations of `keras.ops` in a functional model, also written `x + y`.
OPERATIONS = {
    "Add": ADD,
    "Subtract": SUBTRACT,
    "Multiply": MULTIPLY,
    "Maximum": MAXIMUM,
    "Minimum": MINIMUM,
}
