"""Temporarily changes what a layer computes."""

import contextlib
import functools


@contextlib.contextmanager
def intercepted(layer, make_call):
    """Temporarily replaces a layer's `call` by another function.

    Keras has no hooks for calls. Replacing `call` of the instance also works in wrappers such as
    `TimeDistributed`, which do not use `__call__`.

    Args:
        layer: A `keras.Layer`.
        make_call: Function that takes the layer's own `call` and returns the replacement.

    Example:

    >>> layer = keras.layers.ReLU()
    >>> with intercepted(layer, lambda call: lambda x: 2 * call(x)):
    ...     float(layer(ops.ones(())))
    2.0
    """
    original, own = layer.call, vars(layer).get("call")
    vars(layer)["call"] = functools.wraps(original)(make_call(original))
    try:
        yield
    finally:
        del vars(layer)["call"]
        if own is not None:
            vars(layer)["call"] = own


@contextlib.contextmanager
def with_activation(layer, activation):
    """Temporarily gives a layer another activation.

    Args:
        layer: A `keras.Layer` with an attribute `activation`.
        activation: Function of a tensor.

    Example:

    >>> with with_activation(keras.layers.Dense(3), keras.activations.tanh) as layer:
    ...     layer.activation.__name__
    'tanh'
    """
    before, layer.activation = layer.activation, activation
    try:
        yield layer
    finally:
        layer.activation = before
