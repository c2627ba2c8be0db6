"""Temporarily changes what a layer computes."""

import contextlib
import functools


@contextlib.contextmanager
def intercepted(layer, make_call):
    """Temporarily replaces a layer's `call` by another function.

    Keras has no hooks for calls. Replacing `call` of the instance also works in wrappers such as
    `TimeDistributed`, which do not use `__call__`. The `quantized_call` of a quantized layer is
    replaced too.

    Args:
        layer: A `keras.Layer`.
        make_call: Function that takes the layer's own `call` and returns the replacement.

    Example:

    >>> layer = keras.layers.ReLU()
    >>> with intercepted(layer, lambda call: lambda x: 2 * call(x)):
    ...     float(layer(ops.ones(())))
    2.0
    """
    is_quantized = getattr(layer, "quantization_mode", None) is not None
    names = ("call", "quantized_call") if is_quantized else ("call",)
    own = {name: vars(layer)[name] for name in names if name in vars(layer)}
    for name in names:
        original = getattr(layer, name)
        vars(layer)[name] = functools.wraps(original)(make_call(original))
    try:
        yield
    finally:
        for name in names:
            del vars(layer)[name]
        vars(layer).update(own)


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
