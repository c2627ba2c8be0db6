"""Makes masks of scores: boolean arrays, true where a weight is kept."""

import math
from typing import Any

import numpy as np

from tf_lottery.checks import choice, fraction, natural_number
from tf_lottery.sparsity import patterns
from tf_lottery.sparsity.kept_groups import kept_groups
from tf_lottery.sparsity.patterns import Pattern

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
    scores = {name: np.asarray(array) for name, array in scores.items()}
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
        kept = kept_groups(
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


def density(masks):
    """Returns the fraction of weights that `masks`, a dict of arrays, keep."""
    size = sum(np.size(mask) for mask in masks.values())
    return sum(int(np.count_nonzero(mask)) for mask in masks.values()) / size


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
