"""Scores: how important each weight is. The weights with the highest scores are kept.

Every function has the same signature, so that they are interchangeable:
`(weights, initial_weights=None, rng=None)`, where `weights` and `initial_weights`
are float arrays of one shape and `rng` is a `numpy.random.Generator`. Each returns
an array of that shape. The criteria are those of "Deconstructing Lottery Tickets"
(arXiv:1905.01067, section 2).
"""

import functools

import numpy as np

from tf_lottery.checks import named_function


def magnitude(weights, initial_weights=None, rng=None):
    """Returns `|w_final|`, the criterion of the lottery ticket papers (large_final)."""
    del initial_weights, rng
    return np.abs(weights)


def small_final(weights, initial_weights=None, rng=None):
    """Returns `-|w_final|`, the opposite of `magnitude`, for comparison."""
    return -magnitude(weights, initial_weights, rng)


def large_init(weights, initial_weights=None, rng=None):
    """Returns `|w_init|`: pruning by the magnitude before training."""
    del weights, rng
    return np.abs(_required(initial_weights, "large_init"))


def small_init(weights, initial_weights=None, rng=None):
    """Returns `-|w_init|`."""
    del weights, rng
    return -np.abs(_required(initial_weights, "small_init"))


def large_init_large_final(weights, initial_weights=None, rng=None):
    """Returns the lower of the ranks by `|w_init|` and by `|w_final|`, in [0, 1).

    A weight has a high score only if both of its magnitudes are high.
    """
    del rng
    initial_weights = _required(initial_weights, "large_init_large_final")
    return np.minimum(_ranks(np.abs(initial_weights)), _ranks(np.abs(weights)))


def small_init_small_final(weights, initial_weights=None, rng=None):
    """Returns the lower of the ranks by `-|w_init|` and by `-|w_final|`, in [0, 1)."""
    del rng
    initial_weights = _required(initial_weights, "small_init_small_final")
    return np.minimum(_ranks(-np.abs(initial_weights)), _ranks(-np.abs(weights)))


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


def same_sign(score):
    """Makes a score with which weights whose sign changed in training are pruned first.

    They get the lowest score of all weights, at most 0.

    Args:
        score: Function with the signature of this module.

    Returns:
        Function of the same signature.

    Example:

    >>> same_sign(movement)(np.array([3.0, -2.0]), np.array([1.0, 3.0]))
    array([2., 0.])
    """
    return _where_signs(score, np.equal, "same_sign")


def different_sign(score):
    """Makes a score with which weights that kept their sign in training are pruned first.

    They get the lowest score of all weights, at most 0.

    Args:
        score: Function with the signature of this module.

    Returns:
        Function of the same signature.

    Example:

    >>> different_sign(movement)(np.array([3.0, -2.0]), np.array([1.0, 3.0]))
    array([0., 5.])
    """
    return _where_signs(score, np.not_equal, "different_sign")


_SCORES = {
    function.__name__: function
    for function in (
        magnitude,
        small_final,
        large_init,
        small_init,
        large_init_large_final,
        small_init_small_final,
        movement,
        magnitude_increase,
        large_final_same_sign,
        random,
    )
}
_SCORES["large_final"] = magnitude
_SIGNS = {"_same_sign": same_sign, "_different_sign": different_sign}


def get(identifier):
    """Returns the score function that `identifier` names.

    Args:
        identifier: A function with the signature of this module, or one of
            `"magnitude"` or `"large_final"`, `"small_final"`, `"large_init"`, `"small_init"`,
            `"large_init_large_final"`, `"small_init_small_final"`, `"movement"`,
            `"magnitude_increase"`, `"random"`, or one of these with `"_same_sign"` or
            `"_different_sign"` appended.

    Returns:
        The function.

    Raises:
        ValueError: If `identifier` is neither.

    Example:

    >>> get("movement_same_sign")(np.array([3.0, -2.0]), np.array([1.0, 3.0]))
    array([2., 0.])
    """
    if isinstance(identifier, str) and identifier not in _SCORES:
        for suffix, make in _SIGNS.items():
            name = identifier.removesuffix(suffix)
            if name != identifier and name in _SCORES:
                return make(_SCORES[name])
    return named_function("scores", identifier, _SCORES)


def _where_signs(score, compare, suffix):
    name = f"{score.__name__}_{suffix}"

    @functools.wraps(score)
    def where_signs(weights, initial_weights=None, rng=None):
        signs = np.sign(_required(initial_weights, name))
        values = score(weights, initial_weights=initial_weights, rng=rng)
        lowest = min(np.min(values, initial=0), 0)
        return np.where(compare(np.sign(weights), signs), values, lowest)

    # A search that is resumed compares the name, to go on with the same score.
    where_signs.__name__ = name
    return where_signs


def _ranks(values):
    """Returns for each value the share of values below it; of equal ones the first is below."""
    ranks = np.empty(np.size(values))
    ranks[np.argsort(values, axis=None, kind="stable")] = np.arange(ranks.size) / ranks.size
    return ranks.reshape(np.shape(values))


def _required(initial_weights, name):
    if initial_weights is None:
        raise ValueError(
            f"Scores {name!r} compare with the weights at the start of training. Expected the "
            "argument `initial_weights`, for `tfl.prune` a `Snapshot` taken before training. "
            "Received: initial_weights=None"
        )
    return initial_weights
