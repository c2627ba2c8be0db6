"""Creates variables that parts need for every kernel."""

import keras
import numpy as np
from keras import ops

from tf_lottery import _keras


def precise_dtype(variables):
    """Returns `"float64"` if a variable is of that type, otherwise `"float32"`.

    Variables of parts have this type, even if the kernels have half precision.

    Args:
        variables: List of Keras variables.
    """
    is_double = any(variable.dtype == "float64" for variable in variables)
    return "float64" if is_double else "float32"


def constant(value):
    """Returns an initializer of a constant that is exact in every precision.

    On TensorFlow, `keras.initializers.Constant` rounds to float32.

    Args:
        value: Float.
    """

    def initialize(shape, dtype=None):
        return ops.convert_to_tensor(np.full(shape, value, dtype))

    return initialize


def add_like(layer, kernel, name, initializer, dtype=None, trainable=True, **kwargs):
    """Adds a variable with the shape and the device layout of a kernel.

    Args:
        layer: The `keras.Layer` that gets the variable. It must store it in an attribute.
        kernel: Keras variable.
        name: String, the variable's name.
        initializer: A Keras initializer, or its name.
        dtype: String. Defaults to `None`: that of `precise_dtype`.
        trainable: Boolean. Defaults to `True`.
        **kwargs: Other arguments of `keras.layers.Layer.add_weight`.

    Returns:
        The variable.
    """
    dtype = dtype or precise_dtype([kernel])
    arguments = {"dtype": dtype, "trainable": trainable, "autocast": False}
    layout = _keras.layout_of(kernel)
    if layout is None:
        return layer.add_weight(
            name=name, shape=kernel.shape, initializer=initializer, **arguments, **kwargs
        )
    # A user's layout map contains the paths of kernels, not those of variables of parts.
    overwrite = kwargs.pop("overwrite_with_gradient", False)
    with keras.name_scope(layer.name):
        variable = keras.Variable(
            keras.initializers.get(initializer),
            shape=kernel.shape,
            name=name,
            layout=layout,
            **arguments,
            **kwargs,
        )
    variable.overwrite_with_gradient = overwrite
    return variable
