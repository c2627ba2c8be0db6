"""Variables of parts that belong to kernels."""

import keras
import numpy as np
from keras import ops

from tf_lottery import _keras


def precise_dtype(variables):
    """Returns `"float64"` if some variable is of that type, else `"float32"`.

    It is what is computed with beside kernels, also where those are of half precision.

    Args:
        variables: List of Keras variables.
    """
    is_double = any(variable.dtype == "float64" for variable in variables)
    return "float64" if is_double else "float32"


def constant(value):
    """Returns an initializer that is exact in every precision.

    That of Keras rounds to float32 on TensorFlow.

    Args:
        value: Float.
    """

    def initialize(shape, dtype=None):
        return ops.convert_to_tensor(np.full(shape, value, dtype))

    return initialize


def add_like(layer, kernel, name, initializer, dtype=None, trainable=True, **kwargs):
    """Adds a variable in the shape of a kernel, on the devices where the kernel lies.

    Args:
        layer: The `keras.Layer` that gets the variable; it has to keep it in an attribute.
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
    # A user's layout map knows the paths of kernels, and not those of parts.
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
