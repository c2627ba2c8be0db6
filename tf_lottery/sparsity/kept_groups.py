"""Selects the groups of arrays to keep: with floors, groups of several sizes, and multiples."""

import math

import numpy as np

from tf_lottery.sparsity.selection import Bundles, check_numbers, highest, highest_of_sizes


def kept_groups(pattern, scores, alive, sizes, sparsity, floors, scope):
    """Returns a mask of groups for each array of `scores`; the arrays are ranked together.

    Args:
        pattern: A `Pattern`.
        scores: List of arrays, the pooled scores.
        alive: List of boolean arrays of the same shapes, or `None`: all groups are alive.
        sizes: List of integers, the number of weights in a group of each array.
        sparsity: Float.
        floors: List of integers, how many groups each array keeps at least.
        scope: `"global"` or `"layer"`.
    """
    if pattern.round_to > 1 or pattern.floor:
        return _kept_bundles(pattern.round_to, scores, alive, sizes, sparsity, floors)
    if len(set(sizes)) > 1:
        return _kept_groups_of_sizes(scores, alive, sizes, sparsity, floors)
    num_groups = sum(array.size for array in scores)
    count = num_groups - round(sparsity * num_groups)
    if scope == "layer":
        count = max(count, *floors)
    if alive is None:
        places = [pattern.fill(array, np.ones(array.shape, bool)) for array in scores]
    else:
        places = [pattern.fill(array, a) for array, a in zip(scores, alive, strict=True)]
    if places[0] is None:
        kept = highest(scores, count, alive)
        tiers = []
    else:
        tiers = [places]
        kept = _highest_by_tiers(scores, count, alive, tiers)
    if _floors_are_met(kept, alive, floors):
        return kept
    reserved = _reserved_groups(scores, alive if places[0] is None else places, floors)
    return _highest_by_tiers(scores, count, alive, [reserved, *tiers])


def _kept_groups_of_sizes(scores, alive, sizes, sparsity, floors):
    """Does what `kept_groups` does, for arrays whose groups differ in size."""
    total = _total(scores, sizes, sparsity)
    kept = highest_of_sizes(scores, sizes, total, alive)
    if _floors_are_met(kept, alive, floors):
        return kept
    reserved = _reserved_groups(scores, alive, floors)
    return highest_of_sizes(scores, sizes, total, alive, reserved)


def _kept_bundles(length, scores, alive, sizes, sparsity, floors):
    """Does what `kept_groups` does, and keeps a multiple of `length` groups of every array."""
    alive = [None] * len(scores) if alive is None else alive
    for array, mask in zip(scores, alive, strict=True):
        check_numbers("scores", array if mask is None else array[mask])
    bundles = [Bundles.of(a, length, mask) for a, mask in zip(scores, alive, strict=True)]
    means = [bundle.means(array) for bundle, array in zip(bundles, scores, strict=True)]
    weights = [bundle.lengths * size for bundle, size in zip(bundles, sizes, strict=True)]
    reserved = [
        np.arange(mean.size) < math.ceil(floor / length)
        for mean, floor in zip(means, floors, strict=True)
    ]
    total = _total(scores, sizes, sparsity)
    kept = highest_of_sizes(means, weights, total, first=reserved)
    kept = [mask | first for mask, first in zip(kept, reserved, strict=True)]
    return [b.mask(np.count_nonzero(mask)) for b, mask in zip(bundles, kept, strict=True)]


def _total(scores, sizes, sparsity):
    """Returns the number of weights to keep."""
    num_weights = sum(array.size * size for array, size in zip(scores, sizes, strict=True))
    return num_weights - round(sparsity * num_weights)


def _floors_are_met(kept, alive, floors):
    """Returns whether every array keeps as many groups as its floor, or all that are alive."""
    alive = [np.ones(mask.shape, bool) for mask in kept] if alive is None else alive
    return all(
        np.count_nonzero(mask) >= min(floor, np.count_nonzero(alive_mask))
        for mask, alive_mask, floor in zip(kept, alive, floors, strict=True)
    )


def _reserved_groups(scores, eligible, floors):
    """Returns masks of the groups that fill each array's floor: its highest eligible scores."""
    eligible = [None] * len(scores) if eligible is None else eligible
    return [
        highest([array], floor, None if mask is None else [mask])[0]
        for array, mask, floor in zip(scores, eligible, floors, strict=True)
    ]


def _highest_by_tiers(scores, count, alive, tiers):
    """Selects the highest scores tier by tier: all of one tier before any of the next.

    Args:
        scores: List of arrays.
        count: Integer, how many to select.
        alive: List of boolean arrays of the same shapes, true where a score may be selected,
            or `None`: everywhere.
        tiers: List of tiers, each a list of boolean arrays, subsets of `alive`.
    """
    if alive is None:
        alive = [np.ones(array.shape, bool) for array in scores]
    for array, alive_mask in zip(scores, alive, strict=True):
        check_numbers("scores", array[alive_mask])
    selected = [np.zeros(array.shape, bool) for array in scores]
    for tier in [*tiers, alive]:
        missing = count - sum(map(np.count_nonzero, selected))
        others = [mask & ~done for mask, done in zip(tier, selected, strict=True)]
        added = highest(scores, missing, others)
        selected = [done | new for done, new in zip(selected, added, strict=True)]
    return selected
