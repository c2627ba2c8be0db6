"""Selection: the highest of many scores, by partition instead of sorting.

Its time grows linearly with the number of scores, and it needs one copy of them.
"""

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

    Of equal scores those are selected that come first, in the order of `parts` and by flat
    index.

    Args:
        parts: List of float arrays.
        count: Integer >= 0. All that are eligible are selected if it is more.
        eligible: List of boolean arrays of their shapes, what can be selected at all.
            Defaults to `None`: everything.

    Returns:
        List of new boolean arrays of their shapes.

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

    Groups are selected from the highest score down, as many as bring the sum of their sizes
    closest to `total`, the fewer of two. They are sorted, since such groups are few.

    Args:
        parts: List of float arrays, the scores of groups.
        sizes: List of integers, the size of a group of each of `parts`.
        total: Integer >= 0, the sum of sizes asked for.
        eligible: List of boolean arrays of their shapes, what can be selected at all.
            Defaults to `None`: everything.
        first: List of boolean arrays of their shapes, what is selected before all others.
            Defaults to `None`: nothing.

    Returns:
        List of new boolean arrays of their shapes.

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
    totals = np.concatenate([[0], np.cumsum(np.repeat(sizes, lengths)[order])])
    selected = np.zeros(sum(lengths), bool)
    selected[order[: np.argmin(np.abs(totals - total))]] = True
    flat = np.split(selected, np.cumsum(lengths)[:-1])
    return [mask.reshape(part.shape) for mask, part in zip(flat, parts, strict=True)]


def _concatenated(parts, eligible=None):
    """Returns a new flat array of what is eligible."""
    if eligible is None:
        return np.concatenate([part.reshape(-1) for part in parts])
    return np.concatenate([part[e] for part, e in zip(parts, eligible, strict=True)])


def _copied(arrays):
    return [array.copy() for array in arrays]


def _above(parts, eligible, threshold, count):
    """Selects what is above `threshold`, then of what equals it the first in order."""
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
