"""Makes masks of scores: boolean arrays, true where a weight is kept."""

import math
import numbers
from typing import Any

import numpy as np

from tf_lottery.checks import choice, fraction, natural_number
from tf_lottery.sparsity import patterns
from tf_lottery.sparsity.patterns import Pattern
from tf_lottery.sparsity.selection import (
    Bundles,
    check_numbers,
    highest,
    highest_of_sizes,
)

SCOPES = ("global", "layer")
# Of models with channel groups: the channels of like groups are ranked together.
GROUP_SCOPES = (*SCOPES, "isomorphic")


def top_k_masks(
    scores: dict[str, np.ndarray] | np.ndarray,
    sparsity: float | dict[str, float],
    *,
    pattern: str | Pattern = "unstructured",
    scope: str = "layer",
    masks: dict[str, np.ndarray] | np.ndarray | None = None,
    floor: int = 1,
) -> Any:
    """Keeps the highest scores and prunes the rest.

    The number of pruned groups is exactly `round(sparsity * number of groups)`. A group is
    a single weight, except with the patterns `Block` and `Channel`. Of equal scores, the one
    that comes first is kept, in the order of `scores` and by flat index.

    Channels of kernels with different numbers of inputs are ranked together by the mean of
    their scores, and the number of kept channels is the one that brings the fraction of
    pruned weights closest to `sparsity`. With `NM(n, m)` the `n` highest scores of each group
    of `m` weights are pruned last: from a sparsity of `1 - n / m` on, all groups follow the
    pattern; below it, only some of them do. With `Channel(round_to=8)` the number of kept
    channels of every array is a multiple of 8, or all that are alive: the choice that brings the
    fraction of pruned weights closest to `sparsity`.

    Args:
        scores: Dict of names to float arrays, or a single array. Patterns other than
            `Unstructured` see an array as a matrix, its last axis being the outputs.
        sparsity: Float in [0, 1), the fraction of zeros, over all weights and not only
            over those not pruned yet. With `scope="layer"` also a dict with one value for
            every name.
        pattern: A pattern from `tf_lottery.sparsity.patterns`, or its name. Defaults to
            `"unstructured"`.
        scope: `"layer"` ranks each array by itself, `"global"` all weights together.
            Defaults to `"layer"`.
        masks: Masks to refine, in the form of `scores`. Weights that they prune stay pruned,
            even if `sparsity` asks for less. A group counts as alive if any of its weights
            is. Defaults to `None`: all weights are alive.
        floor: Integer >= 0, the number of weights that every array keeps at least, in whole
            groups, highest scores first. With `scope="global"` the total stays exact: other
            arrays keep fewer weights, and if there are too few for all floors, the highest
            scores are kept. With `scope="layer"` such an array keeps more weights than
            `sparsity` leaves. Arrays that are already empty stay empty. Defaults to `1`.

    Returns:
        Boolean arrays in the form of `scores`.

    Raises:
        ValueError: If an argument is outside its range, names or shapes do not fit, the
            pattern does not divide an array or a score is not a number.

    Example:

    >>> top_k_masks(np.array([[4.0, 1.0], [2.0, 3.0]]), sparsity=0.5)
    array([[ True, False],
           [False,  True]])
    """
    if not isinstance(scores, dict):
        masks = None if masks is None else {"scores": masks}
        found = top_k_masks(
            {"scores": scores}, sparsity, pattern=pattern, scope=scope, masks=masks, floor=floor
        )
        return found["scores"]
    pattern, floor = patterns.get(pattern), natural_number("floor", floor)
    sparsities = named_sparsities(scores, sparsity, scope)
    masks = _checked_masks(scores, masks)
    pooled: dict = {}
    alive: dict = {}
    for name, array in scores.items():
        patterns.check_divides(pattern, np.shape(array), f"scores[{name!r}]")
        pooled[name] = pattern.pool(array)
        if masks is not None:
            alive[name] = pattern.pool(masks[name]) > 0
    result = {}
    for names in [list(scores)] if scope == "global" else [[name] for name in scores]:
        sizes = [scores[name].size // pooled[name].size for name in names]
        kept = _kept_groups(
            pattern,
            [pooled[name] for name in names],
            None if masks is None else [alive[name] for name in names],
            sizes,
            sparsities[names[0]],
            [max(pattern.floor, math.ceil(floor / size)) for size in sizes],
            scope,
        )
        for name, group_mask in zip(names, kept, strict=True):
            result[name] = pattern.expand(group_mask, np.shape(scores[name]))
            _check_equal_groups(pattern, group_mask, result[name])
            if masks is not None:
                result[name] &= masks[name]
    return result


def _check_equal_groups(pattern, group_mask, mask):
    """Raises a `ValueError` if the kept groups have another size than the mean of all groups."""
    kept = np.count_nonzero(mask)
    if kept * np.size(group_mask) != np.count_nonzero(group_mask) * mask.size:
        raise ValueError(
            "All groups of a pattern must have the same size, else the sparsity would be another "
            f"than asked for. Received: pattern={pattern}, of whose {np.size(group_mask)} groups "
            f"with {mask.size} weights in all {np.count_nonzero(group_mask)} have {kept}"
        )


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


def density(masks):
    """Returns the fraction of weights that `masks`, a dict of arrays, keep."""
    size = sum(np.size(mask) for mask in masks.values())
    return sum(int(np.count_nonzero(mask)) for mask in masks.values()) / size


def _kept_groups(pattern, scores, alive, sizes, sparsity, floors, scope):
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
    """Does what `_kept_groups` does, for arrays whose groups differ in size."""
    total = _total(scores, sizes, sparsity)
    kept = highest_of_sizes(scores, sizes, total, alive)
    if _floors_are_met(kept, alive, floors):
        return kept
    reserved = _reserved_groups(scores, alive, floors)
    return highest_of_sizes(scores, sizes, total, alive, reserved)


def _kept_bundles(length, scores, alive, sizes, sparsity, floors):
    """Does what `_kept_groups` does, and keeps a multiple of `length` groups of every array."""
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


def named_sparsities(scores, sparsity, scope):
    """Returns a dict with one checked sparsity for every name.

    Args:
        scores: Dict or list of names.
        sparsity: Float in [0, 1), or with `scope="layer"` a dict of the same names to floats.
        scope: `"layer"` or `"global"`.

    Raises:
        ValueError: If there are no names, `sparsity` has others, or an argument is outside its
            range.

    Example:

    >>> named_sparsities(["first", "second"], 0.5, "layer")
    {'first': 0.5, 'second': 0.5}
    """
    if not scores:
        raise ValueError("Argument `scores` must hold at least one array. Received: {}")
    choice("scope", scope, SCOPES)
    if not isinstance(sparsity, dict):
        return dict.fromkeys(scores, fraction("sparsity", sparsity))
    if scope == "global":
        raise ValueError(
            "Argument `sparsity` must be a single number with `scope='global'`; "
            f"use `scope='layer'` for one per array. Received: sparsity={sparsity}"
        )
    if set(sparsity) != set(scores):
        raise ValueError(
            f"Argument `sparsity` must have the names of `scores`, {sorted(scores)}. "
            f"Received: {sorted(sparsity)}"
        )
    return {name: fraction(f"sparsity[{name!r}]", value) for name, value in sparsity.items()}


def _checked_masks(scores, masks):
    if masks is None:
        return None
    if set(masks) != set(scores):
        raise ValueError(
            f"Argument `masks` must have the names of `scores`, {sorted(scores)}. "
            f"Received: {sorted(masks)}"
        )
    masks = {name: np.asarray(mask) for name, mask in masks.items()}
    for name, mask in masks.items():
        check_mask(f"masks[{name!r}]", mask, np.shape(scores[name]))
    return masks


def check_mask(name, mask, shape):
    """Raises a `ValueError` if `mask` is not a boolean array of `shape`.

    Args:
        name: String, the argument's name for the message.
        mask: NumPy array.
        shape: Tuple of integers.
    """
    if mask.dtype != bool or mask.shape != tuple(shape):
        raise ValueError(
            f"Argument `{name}` must be a boolean array of shape {tuple(shape)}. "
            f"Received: dtype={mask.dtype}, shape={mask.shape}"
        )


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
