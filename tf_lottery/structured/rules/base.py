"""The base class of the rules, one for each kind of layer."""

import dataclasses

import keras
import numpy as np

from tf_lottery import hosts
from tf_lottery.structured.graph import Channels


@dataclasses.dataclass(frozen=True)
class Edit:
    """The changes to a layer in the smaller model.

    Args:
        config: Dict of the changed entries of its config.
        weights: Dict of attribute names to the new arrays.
    """

    config: dict = dataclasses.field(default_factory=dict)
    weights: dict = dataclasses.field(default_factory=dict)


KERNEL, COMPANION, READER = "kernel", "companion", "reader"


@dataclasses.dataclass(frozen=True, eq=False)
class Use:
    """Says which channels of a tensor the entries along an axis of a variable belong to.

    Args:
        variable: A Keras variable.
        axis: Integer, an axis of the variable.
        role: `"kernel"` if the channels are weighted sums with these weights, `"companion"` if
            the entry must be zero for the channel to be zero, and `"reader"` for weights that
            multiply the channel and for others that only disappear with it.
        channels: The `Channels`.
        positions: Integer array, indices on the axis. Defaults to `None`: all of them.
        owners: Integer array of the same length, the channel that each position belongs to.
            Defaults to `None`: the positions modulo the number of channels.

    Example:

    >>> layer = keras.layers.Dense(3)
    >>> outputs = layer(keras.Input((4,)))
    >>> use = Use(layer.kernel, 1, "kernel", channels=Channels(outputs.shape, outputs.dtype))
    >>> use.pairs()
    (array([0, 1, 2]), array([0, 1, 2]))
    """

    variable: keras.Variable
    axis: int
    role: str
    channels: Channels
    positions: np.ndarray | None = None
    owners: np.ndarray | None = None

    def pairs(self):
        """Returns the positions and their owners."""
        length = self.variable.shape[self.axis]
        positions = np.arange(length) if self.positions is None else self.positions
        owners = positions % self.channels.width if self.owners is None else self.owners
        return positions, owners


class Rule:
    """How the channels of a layer's inputs and outputs depend on each other.

    The defaults fit layers without weights whose output channels are copies of input
    channels. A rule for a layer with weights overrides at least `uses`, and `ties` if the
    output channels are not the input channels. Layers that only add or multiply by their
    weights need none.

    Example:

    >>> class Scale(keras.layers.Layer):
    ...     def build(self, shape):
    ...         self.scale = self.add_weight(shape=shape[-1:], initializer="ones")
    ...     def call(self, inputs):
    ...         return keras.ops.einsum("bc,c->bc", inputs, self.scale)
    >>> class ScaleRule(tfl.structured.Rule):
    ...     def uses(self, node):
    ...         return [tfl.structured.Use(node.operation.scale, 0, "reader", node.outputs[0])]
    >>> dense = keras.layers.Dense
    >>> model = keras.Sequential([keras.Input((4,)), dense(3, name="hidden"), Scale(), dense(2)])
    >>> groups = tfl.channel_groups(model, rules={Scale: ScaleRule()})
    >>> [len(group.readers) for group in groups]
    [2]
    """

    # Whether the calls of a layer with several calls can keep different channels.
    is_shareable = True
    # Whether the rule also holds if masks or states are passed besides the inputs.
    takes_extras = False
    # Whether the layer computes new output channels, whose number can be chosen.
    is_source = False
    # Whether the layer multiplies its input channels by weights, each by its own.
    selects_inputs = False
    # Whether the inputs have channels; integers that index a table have none.
    reads_channels = True
    # Whether the rule also holds if numbers, variables or slices are among the inputs.
    takes_values = False
    # Whether the rule also holds if other arguments than the inputs are true.
    takes_flags = False
    # The reason why an input channel stays although its value is known.
    keeps = "its output varies with other channels"

    def misfit(self, node):
        """Returns the reason why this rule does not fit a call, an empty string if it does."""
        return "" if self.ties(node) is not None else "its channels are mixed"

    def left_alone(self, node):
        """Returns the reason why compaction cannot change the layer, an empty string if none."""
        return ""

    def pin(self, layer):
        """Returns the reason why all output channels must stay, an empty string if none."""
        return ""

    def uses(self, node):
        """Returns a list of `Use`: which channels the layer's weights belong to."""
        return []

    def unions(self, node):
        """Yields which channels belong together, also of other tensors than the first output.

        Yields:
            Tuples `(channels, i, others, o)`: channel `i[k]` of a tensor can only be removed
            together with channel `o[k]` of another one, or of the same.
        """
        for x, (i, o) in zip(node.inputs, self.ties(node), strict=False):
            yield x, i, node.outputs[0], o

    def fixed(self, node):
        """Yields pairs of a tensor's `Channels` that all must stay and the reason."""
        for x in node.extras:
            yield x, "it is passed as an additional argument"
        pin = self.pin(node.operation)
        if pin:
            yield node.outputs[0], pin

    def zeros(self, node, inputs):
        """Returns which output channels are zero if their group is pruned.

        Args:
            node: The `Node`.
            inputs: List of boolean arrays, the same for the channels of every input.

        Returns:
            Boolean array for the first output.
        """
        zeros = np.ones(node.outputs[0].width, bool)
        for zero, (i, o) in zip(inputs, self.ties(node), strict=False):
            np.logical_and.at(zeros, o, zero[i])
        return zeros

    def ties(self, node):
        """Returns which input and output channels can only be removed together.

        Returns:
            List with a pair of index arrays for every input: input channel `i[k]` belongs to
            output channel `o[k]`. `None` if that is not known.
        """
        return [(np.arange(x.width), np.arange(x.width)) for x in node.inputs]

    def constants(self, node):
        """Returns the values of the output channels that are constant, NaN for the others."""
        low = np.full(node.outputs[0].width, np.inf)
        high = -low
        with np.errstate(invalid="ignore"):  # NaN stays NaN.
            for x, (i, o) in zip(node.inputs, self.ties(node), strict=True):
                np.minimum.at(low, o, x.constants[i])
                np.maximum.at(high, o, x.constants[i])
        return np.where(low == high, low, np.nan)

    def needed_outputs(self, node):
        """Returns which output channels are needed, also by other output channels."""
        return node.outputs[0].needed

    def needs(self, node):
        """Returns which channels the needed outputs depend on.

        Returns:
            List with a boolean array for every input. Arrays for the extras may follow; without
            them, all channels of the extras are needed.
        """
        needs = [np.zeros(x.width, bool) for x in node.inputs]
        for need, (i, o) in zip(needs, self.ties(node), strict=True):
            np.logical_or.at(need, i, node.outputs[0].needed[o])
        return needs

    def gathers(self, node):
        """Returns whether the layer also works with a selection of its input channels."""
        return self.selects_inputs

    def changes(self, node):
        """Returns whether the layer, or what enters it, differs in the smaller model."""
        return not all(x.needed.all() for x in [*node.inputs, *node.extras, *node.outputs])

    def edit(self, node):
        """Returns the `Edit` that adapts the layer to the kept channels."""
        return Edit()


def to_numpy(variable):
    """Returns a variable's value as an array of at least single precision."""
    array = hosts.to_numpy(variable)
    return array if array.dtype == "float64" else array.astype("float32")


def shrink(array, axis, kept, needed):
    """Returns the kept entries along an axis, with zeros for those that are not needed.

    Args:
        array: Array.
        axis: Integer.
        kept: Boolean array as long as the axis.
        needed: Boolean array as long as the axis.
    """
    array = np.moveaxis(np.array(array), axis, 0)
    array[~needed] = 0
    return np.moveaxis(array[kept], 0, axis)
