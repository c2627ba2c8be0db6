"""Change what one layer computes, for a while."""

import contextlib
import functools


@contextlib.contextmanager
def intercepted(layer, make_call):
    """Puts another function in the place of a layer's `call`.

    Keras has no hooks for calls. `call` of the instance also sees the wrappers, such as
    `TimeDistributed`, that leave out `__call__`.

    Args:
        layer: A `keras.Layer`.
        make_call: Function of the layer's own `call` that returns the function to use.

    Example:

    >>> with intercepted(layer, lambda call: lambda x: 2 * call(x)):
    ...     layer(x)
    """
    original, own = layer.call, vars(layer).get("call")
    vars(layer)["call"] = functools.wraps(original)(make_call(original))
    try:
        yield
    finally:
        del vars(layer)["call"]
        if own is not None:
            vars(layer)["call"] = own
