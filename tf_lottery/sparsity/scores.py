"""Scores: how much a weight matters; the highest scores survive.

Every function has the same signature, so that they can be exchanged:
`(weights, initial_weights=None, rng=None)`, where `weights` and `initial_weights`
are float arrays of one shape and `rng` is a `numpy.random.Generator`. Each returns
an array of that shape. The criteria are those of "Deconstructing Lottery Tickets"
(arXiv:1905.01067, section 2).
"""

import numpy as np

from tf_lottery.checks import named_function


def magnitude(weights, initial_weights=None, rng=None):
    """Returns `|w_final|`, the criterion of the lottery ticket papers (large_final)."""
    del initial_weights, rng
    return np.abs(weights)


def movement(weights, initial_weights=None, rng=None):
    """Returns `|w_final - w_init|`."""
    del rng
    return np.abs(weights - _required(initial_weights, "movement"))


def magnitude_increase(weights, initial_weights=None, rng=None):
    """Returns `|w_final| - |w_init|`; it can be negative."""
    del rng
    return np.abs(weights) - np.abs(_required(initial_weights, "magnitude_increase"))


def large_final_same_sign(weights, initial_weights=None, rng=None):
    """Returns `|w_final|` where the weight kept its initial sign, else 0."""
    del rng
    same_sign = np.sign(weights) == np.sign(_required(initial_weights, "large_final_same_sign"))
    return np.where(same_sign, np.abs(weights), 0.0)


def random(weights, initial_weights=None, rng=None):
    """Returns scores drawn uniformly from [0, 1)."""
    del initial_weights
    if rng is None:
        raise ValueError("Scores 'random' need the argument `rng`. Received: rng=None")
    return rng.random(np.shape(weights), dtype="float32")


_SCORES = {
    function.__name__: function
    for function in (magnitude, movement, magnitude_increase, large_final_same_sign, random)
}


def get(identifier):
    """Returns the score function that `identifier` names.

    Args:
        identifier: A function with the signature of this module, or one of
            `"magnitude"`, `"movement"`, `"magnitude_increase"`,
            `"large_final_same_sign"`, `"random"`.

    Returns:
        The function.

    Raises:
        ValueError: If `identifier` is neither.
    """
    return named_function("scores", identifier, _SCORES)


def _required(initial_weights, name):
    if initial_weights is None:
        raise ValueError(
            f"Scores {name!r} compare with the weights at the start of training. Expected the "
            "argument `initial_weights`, for `tfl.prune` a `Snapshot` taken before training. "
            "Received: initial_weights=None"
        )
    return initial_weights
