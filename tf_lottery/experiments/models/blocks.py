"""Shared by the networks: convolution blocks, and initial weights that depend on a seed."""

import itertools

import keras


def layer_seeds(seed):
    """Returns an iterator of one seed for every layer.

    Args:
        seed: Integer, or `None` for layers that are initialized at random.
    """
    return itertools.repeat(None) if seed is None else itertools.count(1000 * seed)


def he_normal(seeds):
    """Returns He's Gaussian initializer with the next of `seeds`."""
    return keras.initializers.HeNormal(next(seeds))


def glorot_normal(seeds):
    """Returns Glorot's Gaussian initializer with the next of `seeds`."""
    return keras.initializers.GlorotNormal(next(seeds))


def conv(x, filters, size, strides, name, seeds, padding="same", use_bias=False):
    """Applies a 2D convolution, He-initialized.

    Args:
        x: Tensor of shape `(batch, rows, columns, channels)`.
        filters: Integer, the number of output channels.
        size: Integer, the kernel's rows and columns.
        strides: Integer.
        name: String, the layer's name.
        seeds: Iterator that `layer_seeds` returned.
        padding: `"same"` or `"valid"`. Defaults to `"same"`.
        use_bias: Boolean. Defaults to `False`.

    Returns:
        Tensor of shape `(batch, new_rows, new_columns, filters)`.
    """
    return keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding=padding,
        use_bias=use_bias,
        kernel_initializer=he_normal(seeds),
        name=name,
    )(x)


def norm_relu(x, name, activation="relu"):
    """Applies batch normalization and an activation.

    Args:
        x: Tensor.
        name: String, before `_norm` and `_relu` in the layers' names.
        activation: A Keras activation or its name, `None` for none. Defaults to `"relu"`.

    Returns:
        Tensor of the shape of `x`.
    """
    x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
    return keras.layers.Activation(activation, name=f"{name}_relu")(x) if activation else x


def conv_norm_relu(
    x, filters, size, strides, name, seeds, activation="relu", padding="same", use_bias=False
):
    """Applies a convolution, batch normalization and an activation; see `conv`, `norm_relu`."""
    x = conv(x, filters, size, strides, name, seeds, padding, use_bias)
    return norm_relu(x, name, activation)
