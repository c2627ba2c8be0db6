"""Fits the weights that a mask keeps by least squares."""

import numpy as np

LARGEST_FACTOR = 10.0


def refit(gram, cross, weights, mask, ridge):
    """Returns the kept weights of every unit that fit its targets best, zeros elsewhere.

    Of every unit with inputs X_S that are kept, old weights w_S and targets y, the new weights
    are `(X_S^T X_S + r I)^-1 (X_S^T y + r w_S)`. Units with the same mask share one solution.

    Args:
        gram: Array (inputs, inputs), X^T X.
        cross: Array (inputs, units), X^T y.
        weights: Array (inputs, units), the old weights.
        mask: Boolean array (inputs, units), the kept weights.
        ridge: Float >= 0, r in proportion to the mean of the diagonal of `gram`.

    Example:

    >>> refit(np.eye(2), np.array([[2.0], [3.0]]), np.zeros((2, 1)), np.array([[True], [False]]), 1)
    array([[1.],
           [0.]])
    """
    weights = np.where(mask, weights, 0.0).astype("float64")
    strength = ridge * np.trace(gram) / len(gram)
    if not np.trace(gram):
        return weights
    supports, members = np.unique(np.packbits(mask, axis=0), axis=1, return_inverse=True)
    order = np.argsort(members.reshape(-1), kind="stable")
    counts = np.bincount(members.reshape(-1), minlength=supports.shape[1])
    for units in np.split(order, np.cumsum(counts)[:-1]):
        kept = np.flatnonzero(mask[:, units[0]])
        if len(kept):
            matrix = gram[np.ix_(kept, kept)] + strength * np.eye(len(kept))
            places = np.ix_(kept, units)
            weights[places] = _solve(matrix, cross[places] + strength * weights[places])
    return weights


def _solve(matrix, targets):
    try:
        return np.linalg.solve(matrix, targets)
    except np.linalg.LinAlgError:  # Without a ridge, inputs may depend on each other.
        return np.linalg.lstsq(matrix, targets, rcond=None)[0]


def match_variance(moments, weights, has_bias):
    """Returns weights with which the outputs of every unit vary as much as its targets.

    Least squares shrink what they cannot explain: if they explain a share R^2 of the variance of
    the targets, the outputs have R times their standard deviation. Every unit is multiplied by
    what is missing, by a factor between 1/10 and 10, and its bias brings the mean to that of
    the targets. Without a bias, the mean squares are matched instead.

    Args:
        moments: `Moments` of one layer, with targets.
        weights: Array (groups, inputs, units).
        has_bias: Whether the last input is that of the bias, always 1.

    Example:

    >>> from tf_lottery.calibration.walk import Moments
    >>> moments = Moments()
    >>> moments.add(np.array([[[-1.0, 1.0], [1.0, 1.0]]]), np.array([[[0.0], [6.0]]]))
    >>> match_variance(moments, np.array([[[0.5], [0.0]]]), has_bias=True)
    array([[[3.],
            [3.]]])
    """
    count = moments.count
    found = np.einsum("gku,gku->gu", weights, moments.gram @ weights) / count
    wanted = moments.squares / count
    tiny = 1e-10 * wanted
    if has_bias:
        means = np.einsum("gk,gku->gu", moments.gram[:, -1], weights) / count
        wanted_means = moments.cross[:, -1] / count
        found, wanted = found - means**2, wanted - wanted_means**2
    # The variances are differences: what is smaller than their rounding stays as it is.
    varies = np.minimum(found, wanted) > tiny
    ratios = np.divide(wanted, found, out=np.ones_like(found), where=varies)
    factors = np.sqrt(ratios).clip(1 / LARGEST_FACTOR, LARGEST_FACTOR)
    matched = weights * factors[:, None]
    if has_bias:
        matched[:, -1] += wanted_means - factors * means
    return matched


def squared_error(moments, weights):
    """Returns the sum of the squared differences between outputs and targets, for every group.

    Args:
        moments: `Moments` of one layer, with targets.
        weights: Array (groups, inputs, units).
    """
    products = np.einsum("gku,gku->g", weights, moments.gram @ weights - 2 * moments.cross)
    return np.maximum(products + moments.squares.sum(axis=1), 0.0)
