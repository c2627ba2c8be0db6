"""Masks: from scores and a sparsity to boolean arrays, True meaning kept.

Selection is by partition, not by sorting: its time grows linearly with the number of
weights, and it needs one copy of the scores.
"""

import numpy as np

from tf_lottery.checks import choice, fraction
from tf_lottery.sparsity import patterns

SCOPES = ("global", "layer")


def top_k_masks(scores, sparsity, scope="global", pattern="unstructured", masks=None):
    """Keeps the highest scores and prunes the rest.

    The number of pruned groups is `round(sparsity * number of groups)`, exactly. Of
    equal scores the one with the lower flat index is kept, in the order of `scores`.

    Args:
        scores: Dict of names to float arrays, or a single array.
        sparsity: Float in [0, 1), the fraction of zeros, over all weights and not only
            over those still alive. With `scope="layer"` also a dict with one value for
            every name.
        scope: `"global"` ranks all weights together, `"layer"` each array by itself.
            Defaults to `"global"`.
        pattern: A pattern from `tf_lottery.sparsity.patterns`, or its name. Defaults to
            `"unstructured"`.
        masks: Masks to refine, in the form of `scores`. What they prune stays pruned,
            even if `sparsity` asks for less. Defaults to `None`: all weights are alive.

    Returns:
        Boolean arrays in the form of `scores`.

    Raises:
        ValueError: If an argument is outside its range, names or shapes do not fit, or
            a score is not a number.

    Example:

    >>> top_k_masks(np.array([[4.0, 1.0], [2.0, 3.0]]), sparsity=0.5)
    array([[ True, False],
           [False,  True]])
    """
    if not isinstance(scores, dict):
        masks = None if masks is None else {"scores": masks}
        return top_k_masks({"scores": scores}, sparsity, scope, pattern, masks)["scores"]
    pattern = patterns.get(pattern)
    sparsities = _sparsities(scores, sparsity, scope)
    masks = _checked_masks(scores, masks)
    pooled = {name: np.ascontiguousarray(pattern.pool(array)) for name, array in scores.items()}
    alive = None
    if masks is not None:
        alive = {name: _alive_groups(pattern, masks[name]) for name in scores}
    groups = [list(scores)] if scope == "global" else [[name] for name in scores]
    result = {}
    for names in groups:
        parts = [pooled[name].reshape(-1) for name in names]
        alive_parts = None if alive is None else [alive[name] for name in names]
        kept = _top_k(parts, sparsities[names[0]], alive_parts)
        for name, group_mask in zip(names, kept, strict=True):
            shape = np.shape(scores[name])
            result[name] = pattern.expand(group_mask.reshape(pooled[name].shape), shape)
            if masks is not None:
                result[name] &= masks[name]
    return result


def density(masks):
    """Returns the fraction of weights that `masks`, a dict of arrays, keep."""
    size = sum(np.size(mask) for mask in masks.values())
    return sum(int(np.count_nonzero(mask)) for mask in masks.values()) / size


def _sparsities(scores, sparsity, scope):
    """Returns one checked sparsity for every name."""
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
        if mask.dtype != bool or mask.shape != np.shape(scores[name]):
            raise ValueError(
                f"Argument `masks[{name!r}]` must be a boolean array of shape "
                f"{np.shape(scores[name])}. Received: dtype={mask.dtype}, shape={mask.shape}"
            )
    return masks


def _alive_groups(pattern, mask):
    return (pattern.pool(mask.astype("float32")) > 0).reshape(-1)


def _top_k(parts, sparsity, alive):
    """Returns a flat mask for each of `parts`, which are ranked together."""
    size = sum(part.size for part in parts)
    num_pruned = round(sparsity * size)
    num_alive = size if alive is None else sum(int(np.count_nonzero(part)) for part in alive)
    num_kept = min(size - num_pruned, num_alive)
    if num_kept == num_alive:
        return (
            [np.ones(p.size, bool) for p in parts] if alive is None else [a.copy() for a in alive]
        )
    if num_kept == 0:
        return [np.zeros(part.size, bool) for part in parts]
    ranked = np.empty(num_alive, np.result_type(*parts))
    if alive is None:
        np.concatenate(parts, out=ranked)
    else:
        np.concatenate(
            [part[living] for part, living in zip(parts, alive, strict=True)], out=ranked
        )
    # The maximum is NaN if any score is, and needs no temporary array.
    if np.isnan(ranked.max()):
        raise ValueError("Argument `scores` must be numbers. Received: at least one NaN")
    ranked.partition(num_alive - num_kept)
    threshold = ranked[num_alive - num_kept]
    del ranked
    return _above(parts, alive, threshold, num_kept)


def _above(parts, alive, threshold, num_kept):
    """Keeps what is above `threshold`, then of what equals it the first in order."""
    kept = []
    for i, part in enumerate(parts):
        mask = part > threshold
        if alive is not None:
            mask &= alive[i]
        kept.append(mask)
    num_missing = num_kept - sum(int(np.count_nonzero(mask)) for mask in kept)
    for i, part in enumerate(parts):
        if not num_missing:
            break
        ties = part == threshold
        if alive is not None:
            ties &= alive[i]
        chosen = np.flatnonzero(ties)[:num_missing]
        kept[i][chosen] = True
        num_missing -= chosen.size
    return kept
