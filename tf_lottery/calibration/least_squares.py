"""Fits the weights that a mask keeps by least squares."""

import numpy as np


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


def squared_error(moments, weights):
    """Returns the sum of the squared differences between outputs and targets, for every group.

    Args:
        moments: `Moments` of one layer, with targets.
        weights: Array (groups, inputs, units).
    """
    products = np.einsum("gku,gku->g", weights, moments.gram @ weights - 2 * moments.cross)
    return np.maximum(products + moments.squares.sum(axis=1), 0.0)
