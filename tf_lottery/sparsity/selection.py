"""Selects the highest of many scores, by partition instead of sorting.

The time grows linearly with the number of scores, and the memory is one copy of them.
"""

import dataclasses

import numpy as np


def check_numbers(name, scores):
    """Raises a `ValueError` if an array holds a NaN.

    Args:
        name: String, the argument's name for the message.
        scores: Float array.
    """
    # The maximum is NaN if any score is, and needs no temporary array.
    if scores.size and np.isnan(scores.max()):
        raise ValueError(f"Argument `{name}` must be numbers. Received: at least one NaN")


def highest(parts, count, eligible=None):
    """Selects the `count` highest scores of arrays that are ranked together.

    Of equal scores, the one that comes first is selected, in the order of `parts` and by flat
    index.

    Args:
        parts: List of float arrays.
        count: Integer >= 0. If fewer scores are eligible, all of them are selected.
        eligible: List of boolean arrays of the same shapes, true where a score may be
            selected. Defaults to `None`: everywhere.

    Returns:
        List of new boolean arrays of the same shapes.

    Raises:
        ValueError: If a score to be ranked is NaN.

    Example:

    >>> highest([np.array([1.0, 3.0]), np.array([2.0])], count=2)
    [array([False,  True]), array([ True])]
    """
    size = sum(part.size for part in parts)
    num_eligible = size if eligible is None else sum(map(np.count_nonzero, eligible))
    if count >= num_eligible:
        return [np.ones(p.shape, bool) for p in parts] if eligible is None else _copied(eligible)
    if count == 0:
        return [np.zeros(part.shape, bool) for part in parts]
    ranked = _concatenated(parts, eligible)
    check_numbers("scores", ranked)
    ranked.partition(num_eligible - count)
    threshold = ranked[num_eligible - count]
    del ranked
    return _above(parts, eligible, threshold, count)


def highest_of_sizes(parts, sizes, total, eligible=None, first=None):
    """Selects the highest scores of groups of different size.

    Selects groups from the highest score down, until the sum of their sizes is closest to
    `total`; of two equally close sums, the lower one. There are few such groups, so that
    sorting them is fast.

    Args:
        parts: List of float arrays, the scores of groups.
        sizes: List of integers, the size of a group in each array of `parts`, or of arrays, one
            size for each group.
        total: Integer >= 0, the sum of sizes to reach.
        eligible: List of boolean arrays of the same shapes, true where a group may be
            selected. Defaults to `None`: everywhere.
        first: List of boolean arrays of the same shapes, true for groups to select before all
            others. Defaults to `None`: none.

    Returns:
        List of new boolean arrays of the same shapes.

    Raises:
        ValueError: If a score to be ranked is NaN.

    Example:

    >>> highest_of_sizes([np.array([1.0, 3.0]), np.array([2.0])], sizes=[2, 6], total=8)
    [array([False,  True]), array([ True])]
    """
    lengths = [part.size for part in parts]
    positions = np.arange(sum(lengths))
    if eligible is not None:
        positions = np.flatnonzero(_concatenated(eligible))
    scores = _concatenated(parts, eligible)
    check_numbers("scores", scores)
    later = np.zeros(scores.shape, bool) if first is None else ~_concatenated(first, eligible)
    order = positions[np.lexsort((-scores, later))]
    sizes = [np.broadcast_to(size, n) for size, n in zip(sizes, lengths, strict=True)]
    totals = np.concatenate([[0], np.cumsum(np.concatenate(sizes)[order])])
    selected = np.zeros(sum(lengths), bool)
    selected[order[: np.argmin(np.abs(totals - total))]] = True
    flat = np.split(selected, np.cumsum(lengths)[:-1])
    return [mask.reshape(part.shape) for mask, part in zip(flat, parts, strict=True)]


@dataclasses.dataclass(frozen=True)
class Bundles:
    """The eligible scores of an array, from the highest down, in bundles of equal length.

    To keep a multiple of some number of scores, whole bundles are selected, the first ones
    first. The last bundle can be shorter.

    Args:
        order: Integer array, the flat indices of the eligible scores, the highest first.
        starts: Integer array, where in `order` the bundles start.
        shape: Tuple, the shape of the array.

    Example:

    >>> bundles = Bundles.of(np.array([3.0, 1.0, 4.0, 2.0, 5.0]), length=2)
    >>> bundles.lengths, bundles.means(np.array([3.0, 1.0, 4.0, 2.0, 5.0]))
    (array([2, 2, 1]), array([4.5, 2.5, 1. ]))
    >>> bundles.mask(1)
    array([False, False,  True, False,  True])
    """

    order: np.ndarray
    starts: np.ndarray
    shape: tuple

    @classmethod
    def of(cls, scores, length, eligible=None):
        """Returns the bundles of an array.

        Args:
            scores: Float array.
            length: Integer > 0, the number of scores in a bundle.
            eligible: Boolean array of the same shape. Defaults to `None`: all scores.
        """
        order = np.argsort(-scores, axis=None, kind="stable")
        if eligible is not None:
            order = order[eligible.reshape(-1)[order]]
        return cls(order, np.arange(0, len(order), length), scores.shape)

    @property
    def lengths(self):
        """Integer array, the number of scores in every bundle."""
        return np.diff(self.starts, append=len(self.order))

    def means(self, scores):
        """Returns the mean of the scores in every bundle."""
        if not len(self.order):
            return np.zeros(0)
        return np.add.reduceat(scores.reshape(-1)[self.order], self.starts) / self.lengths

    def mask(self, count):
        """Returns a boolean array that selects the first `count` bundles."""
        selected = np.zeros(self.shape, bool)
        selected.flat[self.order[: self.lengths[:count].sum()]] = True
        return selected


def _concatenated(parts, eligible=None):
    """Returns the eligible values of all parts as a new flat array."""
    if eligible is None:
        return np.concatenate([part.reshape(-1) for part in parts])
    return np.concatenate([part[e] for part, e in zip(parts, eligible, strict=True)])


def _copied(arrays):
    return [array.copy() for array in arrays]


def _above(parts, eligible, threshold, count):
    """Selects `count` scores: those above `threshold`, then the first of those equal to it."""
    selected = []
    for i, part in enumerate(parts):
        mask = part > threshold
        if eligible is not None:
            mask &= eligible[i]
        selected.append(mask)
    num_missing = count - sum(int(np.count_nonzero(mask)) for mask in selected)
    for i, part in enumerate(parts):
        if not num_missing:
            break
        ties = part == threshold
        if eligible is not None:
            ties &= eligible[i]
        chosen = np.flatnonzero(ties)[:num_missing]
        selected[i].flat[chosen] = True
        num_missing -= chosen.size
    return selected
