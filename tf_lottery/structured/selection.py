"""Selects the channels of a model's groups, by sparsity or within a budget."""

import math
import warnings

import numpy as np

from tf_lottery import hosts
from tf_lottery.sparsity import budgets, group_scores
from tf_lottery.sparsity import masks as mask_ops
from tf_lottery.sparsity.groups import Accounting
from tf_lottery.structured.products import count_macs
from tf_lottery.structured.removal import reasons_to_stay


def scores_of_channels(model, scores, pattern=None, normalize=True):
    """Returns a dict of the names of groups to one score for each channel.

    Args:
        model: A `SparseModel`.
        scores: A function of `tf_lottery.sparsity.group_scores` that needs no data, or a dict of
            the names of all groups to arrays.
        pattern: A `Pattern`. Defaults to `None`: that of the model.
        normalize: Boolean, whether what a function returns is divided by its mean in the group.
            Defaults to `True`.

    Raises:
        ValueError: If the pattern does not prune groups, or the scores do not fit them.

    Example:

    >>> by_channel = tfl.sparsify(model, pattern="channel")
    >>> scores_of_channels(by_channel, group_scores.l1)["hidden"].shape
    (10,)
    """
    if not model.couples(pattern):
        raise ValueError(
            "Argument `scores` must score single weights for a model without channel groups; make "
            "it by `tfl.sparsify(model, pattern='channel')` to score channels. "
            f"Received: scores={scores!r}, pattern='{pattern or model.pattern}'"
        )
    if callable(scores):
        weights = member_values(model)
        found = {group.name: scores(group, weights) for group in model.groups}
        if normalize:
            found = {name: group_scores.normalized(array) for name, array in found.items()}
        return found
    expected = {group.name: (group.width,) for group in model.groups}
    received = {name: np.shape(array) for name, array in scores.items()}
    if received != expected:
        raise ValueError(
            "Argument `scores` must have one score for each channel of every group: arrays of the "
            f"shapes {expected}. Received: {received}"
        )
    return {name: np.asarray(array) for name, array in scores.items()}


def member_values(model):
    """Returns a dict of the keys of all members of groups to arrays, zero where pruned.

    Args:
        model: A `SparseModel`.
    """
    values = {key: hosts.to_numpy(v) for key, v in model.wrapper.named_members().items()}
    return {**values, **model.get_kernels()}


def channel_masks(model, scores, sparsity, *, pattern, scope, masks, floor):
    """Returns masks that keep the channels with the highest scores.

    Args:
        model: A `SparseModel` with groups.
        scores: Dict of kernel names to the scores of weights, or of the names of groups to the
            scores of channels.
        sparsity: Float, or with `scope="layer"` a dict of the names of groups to floats.
        pattern: A `Channel`.
        scope: `"layer"`, `"global"` or `"isomorphic"`.
        masks: Dict of kernel names to masks to refine.
        floor: Integer, the number of weights that every group keeps at least.

    Returns:
        Dict of kernel names to boolean arrays.

    Raises:
        ValueError: If a group would lose all channels.
    """
    alive = model.to_matrices(masks, pattern)
    matrices = _as_matrices(model, scores, pattern, alive)
    options = {"pattern": pattern, "floor": floor}
    if scope == "isomorphic":
        kept = {}
        for names in ranked_together(model.groups, scope):
            like, before = ({name: d[name] for name in names} for d in (matrices, alive))
            kept |= mask_ops.top_k_masks(like, sparsity, scope="global", masks=before, **options)
    else:
        kept = mask_ops.top_k_masks(matrices, sparsity, scope=scope, masks=alive, **options)
    vanished = [name for name, mask in kept.items() if alive[name].any() and not mask.any()]
    if vanished:
        raise ValueError(
            "Argument `sparsity` must leave a channel of every group; lower it, or use `floor=1` "
            f"or `scope='layer'`. Received: sparsity={sparsity}, which removes {vanished}"
        )
    return model.from_matrices(kept, pattern)


def masks_within_budget(model, scores, budget, *, pattern, scope, floor):
    """Returns masks that keep as many channels as a budget allows.

    Args:
        model: A `SparseModel` with groups.
        scores: As in `channel_masks`.
        budget: Dict of `"flops"`, `"parameters"` or both to fractions; see `tfl.prune`.
        pattern: A `Channel`.
        scope: `"layer"`, `"global"` or `"isomorphic"`.
        floor: Integer, the number of weights that every group keeps at least.

    Returns:
        Dict of kernel names to boolean arrays.

    Raises:
        ValueError: If the budget is too small, or FLOPs cannot be counted.
    """
    _warn_of_channels_that_stay(model)
    masks = model.get_masks()
    alive = model.to_matrices(masks, pattern)
    pooled = {n: pattern.pool(m) for n, m in _as_matrices(model, scores, pattern, alive).items()}
    kept = budgets.keep_within_budget(
        accounting_of(model, with_flops="flops" in budget),
        budget,
        pooled,
        ranked_together(model.groups, scope),
        alive={name: mask.any(axis=0) for name, mask in alive.items()},
        round_to=pattern.round_to,
        floors={
            name: max(1, pattern.floor, math.ceil(floor / len(mask)))
            for name, mask in alive.items()
        },
    )
    kept = {name: channels & alive[name] for name, channels in kept.items()}
    return model.from_matrices(kept, pattern)


def _warn_of_channels_that_stay(model):
    if reasons := reasons_to_stay(model.model, model.groups, model.wrapper.named_members()):
        warnings.warn(
            f"`tfl.compact` leaves the pruned channels of these groups, which the budget counts as "
            f"removed: {reasons}. Leave them out with `exclude` in `tfl.sparsify`.",
            stacklevel=4,
        )


def ranked_together(groups, scope):
    """Returns lists of the names of groups whose channels are ranked together.

    Args:
        groups: List of `Group`.
        scope: `"layer"`, `"global"` or `"isomorphic"`.

    Example:

    >>> ranked_together([units], "isomorphic")
    [['units']]
    """
    if scope == "layer":
        return [[group.name] for group in groups]
    lists = {}
    for group in groups:
        kind = group_scores.kind_of(group) if scope == "isomorphic" else ()
        lists.setdefault(kind, []).append(group.name)
    return list(lists.values())


def accounting_of(model, with_flops=True):
    """Returns the `Accounting` of a model's parameters and FLOPs without some channels.

    Args:
        model: A `SparseModel` with groups.
        with_flops: Boolean, whether to count FLOPs, which needs the shapes of the inputs.
            Defaults to `True`.

    Raises:
        ValueError: If FLOPs are counted and the shape of an input is not known.

    Example:

    >>> by_channel = tfl.sparsify(model, pattern="channel")
    >>> accounting = accounting_of(by_channel)
    >>> accounting.parameters({}), accounting.parameters({"hidden": 5})
    (112, 57)
    """
    members = model.wrapper.named_members()
    known = {id(variable) for variable in members.values()}
    others = {name: v for name, v in model.named_weights.items() if id(v) not in known}
    variables = {**others, **members}
    keys = {id(variable): name for name, variable in variables.items()}
    macs = count_macs(model.model, keys) if with_flops else {}
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    return Accounting(model.groups, shapes, macs)


def _as_matrices(model, scores, pattern, like):
    """Returns the scores of weights or channels as matrices of the shapes of others."""
    if set(scores) == set(like):
        return {name: np.broadcast_to(scores[name], like[name].shape) for name in like}
    return model.to_matrices(scores, pattern)
