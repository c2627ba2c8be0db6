"""What compaction has to know about a kind of layer."""

import dataclasses

import keras
import numpy as np

from tf_lottery.layers.soft_activations import SoftActivation

NOT_ELEMENTWISE = "its activation is not known to treat every channel for itself"


@dataclasses.dataclass(frozen=True)
class Edit:
    """How a layer differs in the smaller model.

    Args:
        config: Dict of the changed entries of its config.
        weights: Dict of attribute names to arrays.
    """

    config: dict = dataclasses.field(default_factory=dict)
    weights: dict = dataclasses.field(default_factory=dict)


class Rule:
    """How the channels of a layer's inputs and outputs depend on each other.

    The defaults fit layers without weights whose output channels are copies of input
    channels.
    """

    # Whether calls of one layer can be treated one by one, which needs no weights.
    is_shareable = True
    # Whether masks or states besides the inputs change nothing about the rest.
    takes_extras = False
    # Whether the output channels are the layer's own, so that their number can be chosen.
    is_source = False
    # Whether the layer can do with a selection of its input channels.
    selects_inputs = False
    # Whether the inputs have channels, unlike integers that are looked up.
    reads_channels = True
    # Why an input channel stays though its value is known.
    keeps = "its output varies with other channels"

    def misfit(self, node):
        """Returns why a call cannot be treated by this rule, an empty string if it can."""
        return "" if self.ties(node) is not None else "its channels are mixed"

    def pin(self, layer):
        """Returns why all of a layer's output channels stay, an empty string if they need not."""
        return ""

    def ties(self, node):
        """Returns which channels stay or go together.

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

    def needs(self, node):
        """Returns a boolean array for every input: which channels the needed outputs need."""
        needs = [np.zeros(x.width, bool) for x in node.inputs]
        for need, (i, o) in zip(needs, self.ties(node), strict=True):
            np.logical_or.at(need, i, node.outputs[0].needed[o])
        return needs

    def edit(self, node):
        """Returns the `Edit` that makes the layer fit the kept channels."""
        return Edit()


def elementwise_functions():
    """Returns the activations of Keras that treat every channel for itself."""
    mixing = {"glu", "log_softmax", "softmax", "sparsemax", "get", "serialize", "deserialize"}
    functions = vars(keras.activations).items()
    return {f for name, f in functions if callable(f) and name not in mixing}


def is_elementwise(activation):
    """Returns whether an activation, `None` for none, treats every channel for itself."""
    if activation is None or isinstance(activation, SoftActivation):
        return True
    try:
        return activation in elementwise_functions()
    except TypeError:  # It has no hash.
        return False


def apply(function, values):
    """Applies an elementwise function to constants.

    Args:
        function: Function or layer, `None` for none.
        values: Array, NaN for channels that are not constant.

    Returns:
        Array of the same shape; values that are not finite count as not constant.
    """
    known = np.isfinite(values)
    if function is not None and known.any():
        inputs = np.where(known, values, 0.0).astype("float32")[None]
        outputs = keras.ops.cast(function(keras.ops.convert_to_tensor(inputs)), "float32")
        values = keras.ops.convert_to_numpy(outputs)[0].astype("float64")
    return np.where(known & np.isfinite(values), values, np.nan)


def to_numpy(variable):
    """Returns a variable's value as an array of at least single precision."""
    array = keras.ops.convert_to_numpy(variable)
    return array if array.dtype == "float64" else array.astype("float32")


def shrink(array, axis, kept, needed):
    """Returns the kept entries along an axis, zeros in place of those that are not needed.

    Args:
        array: Array.
        axis: Integer.
        kept: Boolean array as long as the axis.
        needed: Boolean array as long as the axis.
    """
    array = np.moveaxis(np.array(array), axis, 0)
    array[~needed] = 0
    return np.moveaxis(array[kept], 0, axis)
