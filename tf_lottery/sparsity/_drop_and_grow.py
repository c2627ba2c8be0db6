"""One update of dynamic sparse training: the smallest weights make room for others."""

import numbers

import numpy as np

from tf_lottery.checks import fraction
from tf_lottery.sparsity import patterns
from tf_lottery.sparsity.masks import check_mask
from tf_lottery.sparsity.patterns import Pattern
from tf_lottery.sparsity.selection import check_numbers, highest


def drop_and_grow(
    weights: np.ndarray,
    mask: np.ndarray,
    grow_scores: np.ndarray,
    drop_fraction: float,
    pattern: str | Pattern = "unstructured",
    num_grown: int | None = None,
) -> np.ndarray:
    """Replaces the smallest weights by as many others: one update of dynamic sparse training.

    The rule of "Rigging the Lottery" (arXiv:1911.11134, section 3): first the
    `int(active * drop_fraction)` active weights with the lowest magnitude are dropped; then
    the inactive weights with the highest scores grow, which may be ones just dropped. Of
    equal magnitudes or scores, the lower flat index is preferred. With `Block` and `Channel`
    whole groups are dropped and grown, counted as groups and ranked by their means. With
    `NM(n, m)` at most `n` of each `m` weights are active after growth.

    Args:
        weights: Float array. Patterns other than `Unstructured` see it as a matrix, its last
            axis being the outputs.
        mask: Boolean array of its shape, True meaning active, that follows the pattern.
        grow_scores: Float array of its shape, for example the magnitudes of the gradient.
        drop_fraction: Float in [0, 1), the fraction of active weights to drop.
        pattern: A pattern, or its name. Defaults to `"unstructured"`.
        num_grown: Integer >= 0, how many to grow, for methods that move weights between
            layers. Fewer grow if the mask and the pattern have no room for more. Defaults to
            `None`: as many as were dropped, which leaves the density unchanged.

    Returns:
        The new mask, a boolean array.

    Raises:
        ValueError: If an argument is outside its range, shapes do not fit, the mask does not
            follow the pattern, or a weight or score is not a number.

    Example:

    >>> weights = np.array([[3.0, 0.0], [-1.0, 0.0]])
    >>> mask = np.array([[True, False], [True, False]])
    >>> gradients = np.array([[0.1, 0.2], [0.3, 0.4]])
    >>> drop_and_grow(weights, mask, gradients, drop_fraction=0.5)
    array([[ True, False],
           [False,  True]])
    """
    pattern = patterns.get(pattern)
    fraction("drop_fraction", drop_fraction)
    weights, mask, grow_scores = map(np.asarray, (weights, mask, grow_scores))
    patterns.check_divides(pattern, weights.shape, "weights")
    _check_update(pattern, weights, mask, grow_scores, num_grown)
    active = pattern.pool(mask) > 0
    num_active = int(np.count_nonzero(active))
    num_dropped = int(num_active * drop_fraction)
    num_grown = num_dropped if num_grown is None else int(num_grown)
    [kept] = highest([pattern.pool(np.abs(weights))], num_active - num_dropped, [active])
    scores = pattern.pool(grow_scores)
    places = pattern.fill(scores, ~kept, kept)
    [grown] = highest([scores], num_grown, [~kept if places is None else places])
    return pattern.expand(kept | grown, mask.shape)


def _check_update(pattern, weights, mask, grow_scores, num_grown):
    """Checks the arguments of `drop_and_grow`."""
    check_mask("mask", mask, weights.shape)
    if not pattern.holds(mask):
        raise ValueError(
            f"Argument `mask` must follow the pattern {pattern}; prune to it first, as "
            f"`top_k_masks` does. Received: a mask of density {mask.mean():.3f} that does not"
        )
    if grow_scores.shape != weights.shape:
        raise ValueError(
            f"Argument `grow_scores` must have the shape of `weights`, {weights.shape}. "
            f"Received: shape={grow_scores.shape}"
        )
    is_integer = isinstance(num_grown, numbers.Integral) and not isinstance(num_grown, bool)
    if num_grown is not None and not (is_integer and num_grown >= 0):
        raise ValueError(
            f"Argument `num_grown` must be an integer >= 0. Received: num_grown={num_grown!r}"
        )
    check_numbers("weights", weights)
    check_numbers("grow_scores", grow_scores)
