"""Formulas of soft gates on arrays: arXiv:1912.04427, equation 4 and algorithm 2."""

import numpy as np

# The value of a closed gate: so far below zero that it has no gradient.
SHUT = -1000.0
_DECIDED = 0.01


def sigmoid(values, temperature=1.0):
    """Returns `1 / (1 + exp(-temperature * values))`, without overflow.

    Args:
        values: Float array.
        temperature: Float. Defaults to `1.0`.

    Example:

    >>> sigmoid(np.array([-1.0, 0.0, 1.0]), temperature=200.0)
    array([0. , 0.5, 1. ])
    """
    return 0.5 * (1.0 + np.tanh(0.5 * temperature * np.asarray(values, "float64")))


def reset(values, initial_value, final_temperature):
    """Returns the values that the next round starts from: `min(final_temperature * s, s0)`.

    Args:
        values: Float array, the `s` at the end of a round.
        initial_value: Float, `s0`.
        final_temperature: Float, the temperature at the end of a round.

    Example:

    >>> reset(np.array([-0.02, 0.1]), initial_value=0.0, final_temperature=200.0)
    array([-4.,  0.])
    """
    return np.minimum(final_temperature * values, initial_value)


def shut_below(values, initial_value):
    """Closes the gates whose value is below the initial one, for good.

    Iterative Stochastic Sparsification, the paper's baseline, does this between rounds.

    Args:
        values: Float array.
        initial_value: Float.
    """
    return np.where(values < initial_value, SHUT, values)


def undecided(values, temperature):
    """Returns the share of gates whose sigmoid is between 0.01 and 0.99.

    Args:
        values: List of float arrays.
        temperature: Float.

    Example:

    >>> float(undecided([np.array([-1.0, 0.0, 0.01, 1.0])], temperature=200.0))
    0.5
    """
    count = sum(
        np.count_nonzero((gate > _DECIDED) & (gate < 1 - _DECIDED))
        for gate in (sigmoid(array, temperature) for array in values)
    )
    return count / sum(array.size for array in values)
