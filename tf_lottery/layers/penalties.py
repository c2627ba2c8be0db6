"""Regularizers of weights whose pruned positions may hold any value."""

import contextlib

import keras


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
            variable.regularizer = _OfValue(value, regularizer)
        yield
    finally:
        for (variable, _), regularizer in zip(pairs, before, strict=True):
            variable.regularizer = regularizer


class _OfValue(keras.regularizers.Regularizer):
    """A regularizer of a value that is not that of its variable."""

    # Before 3.15, Keras takes no other callables for regularizers of variables.

    def __init__(self, value, regularizer):
        self._value, self._regularizer = value, regularizer

    def __call__(self, x):
        del x
        return self._regularizer(self._value)
