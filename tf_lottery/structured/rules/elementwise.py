"""Activations and other functions that process every channel separately."""

import keras
import numpy as np

from tf_lottery._keras import is_operation_of_ops
from tf_lottery.layers.soft_activations import SoftActivation
from tf_lottery.structured.scan import Scan, is_tensor

NOT_ELEMENTWISE = "its activation is not known to process every channel separately"
# Names of the classes of elementwise functions of `keras.ops`, which are not public.
_NAMES = {
    "activations": "Relu Relu6 LeakyRelu Elu Selu Celu Gelu Silu Sigmoid HardSigmoid HardSilu "
    "Softplus Softsign Tanh",
    "functions": "Abs Absolute Negative Square Sqrt Rsqrt Clip Sign Exp Expm1 Log1p Erf Sin Cos "
    "HardTanh SoftShrink HardShrink Threshold LogSigmoid Cast StopGradient Identity",
    "others": "Add Subtract Multiply Divide TrueDivide Power Maximum Minimum Log Reciprocal",
}
ACTIVATIONS, FUNCTIONS, _OTHERS = (names.split() for names in _NAMES.values())
ELEMENTWISE = frozenset([*ACTIVATIONS, *FUNCTIONS, *_OTHERS])


def elementwise_functions():
    """Returns the activations of Keras that process every channel separately."""
    mixing = {"glu", "log_softmax", "softmax", "sparsemax", "get", "serialize", "deserialize"}
    functions = vars(keras.activations).items()
    return {f for name, f in functions if callable(f) and name not in mixing}


def is_elementwise(activation):
    """Returns whether an activation, or `None`, processes every channel separately.

    A function that is none of Keras' activations is followed with a symbolic tensor: all it may
    use are elementwise functions of `keras.ops`, and numbers.

    Args:
        activation: Function or layer, or `None`.
    """
    if activation is None or isinstance(activation, SoftActivation):
        return True
    try:
        if activation in elementwise_functions():
            return True
    except TypeError:  # It is not hashable.
        pass
    return callable(activation) and not isinstance(activation, keras.Layer) and _traces(activation)


def _traces(function):
    """Returns whether a function consists of elementwise functions of `keras.ops`."""
    x = keras.Input((2, 3))
    try:
        calls = Scan(keras.Model(x, function(x))).calls
    except Exception:  # The function may fail in any way.
        return False
    return all(
        is_operation_of_ops(call.operation)
        and type(call.operation).__name__ in ELEMENTWISE
        and all(value.shape == x.shape for value in call.inputs)
        and all(is_tensor(v) or v is None or isinstance(v, int | float) for v in call.arguments)
        for call in calls
    )


def apply(function, values):
    """Applies an elementwise function to constants.

    Args:
        function: Function or layer, `None` for none.
        values: Array, NaN for channels that are not constant.

    Returns:
        Array of the same shape, NaN where the result is not finite.
    """
    known = np.isfinite(values)
    if function is not None and known.any():
        inputs = np.where(known, values, 0.0).astype("float32")[None]
        outputs = keras.ops.cast(function(keras.ops.convert_to_tensor(inputs)), "float32")
        values = keras.ops.convert_to_numpy(outputs)[0].astype("float64")
    return np.where(known & np.isfinite(values), values, np.nan)


def is_zero_at_zero(function):
    """Returns whether an elementwise function, or `None` for none, maps 0 to 0."""
    return apply(function, np.zeros(1))[0] == 0
