"""Variables of parts that belong to kernels."""

import keras

from tf_lottery import _keras


def add_like(layer, kernel, name, initializer, dtype="float32", trainable=True, **kwargs):
    """Adds a variable in the shape of a kernel, on the devices where the kernel lies.

    Args:
        layer: The `keras.Layer` that gets the variable; it has to keep it in an attribute.
        kernel: Keras variable.
        name: String, the variable's name.
        initializer: A Keras initializer, or its name.
        dtype: String. Defaults to `"float32"`.
        trainable: Boolean. Defaults to `True`.
        **kwargs: Other arguments of `keras.layers.Layer.add_weight`.

    Returns:
        The variable.
    """
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
