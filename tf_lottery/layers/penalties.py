"""Regularizers of weights whose pruned positions may hold any value."""

import contextlib


@contextlib.contextmanager
def penalizing(pairs):
    """Makes regularizers see other values than those that their variables store.

    Args:
        pairs: List of pairs of a variable and the tensor that its regularizer gets in the block.
            Variables without a regularizer have none in the block either.

    Example:

    >>> layer = keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L1(1.0))
    >>> layer.build((None, 3))
    >>> with penalizing([(layer.kernel, ops.ones((3, 2)))]):
    ...     print(float(layer.losses[0]))
    6.0
    """
    pairs = [(variable, value) for variable, value in pairs if variable.regularizer is not None]
    before = [variable.regularizer for variable, _ in pairs]
    try:
        for (variable, value), regularizer in zip(pairs, before, strict=True):
            variable.regularizer = _on(value, regularizer)
        yield
    finally:
        for (variable, _), regularizer in zip(pairs, before, strict=True):
            variable.regularizer = regularizer


def _on(value, regularizer):
    return lambda _: regularizer(value)
