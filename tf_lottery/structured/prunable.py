"""The channel groups of a model that pruning may touch."""

from tf_lottery.layers.kernels import EXCLUDED, IS_FROZEN, IS_INTEGER, find_kernels
from tf_lottery.layers.weights import unique_paths
from tf_lottery.sparsity.groups import Group
from tf_lottery.structured._channel_groups import channel_groups

NOT_ALONE = "pruned only together with {path!r}, which is {reason}"
# Other reasons are those of single weights, such as embeddings, whose channels can be removed.
_REASONS_TO_STAY = (EXCLUDED, IS_FROZEN, IS_INTEGER)


def prunable_groups(model, include=None, exclude=None, groups=None):
    """Returns the groups of a model to prune, and why other weights are not pruned.

    A group is pruned as a whole or not at all. It is left out if `exclude` selects one of its
    kernels, if one is frozen, or if `include` is given and selects none of them.

    Args:
        model: A built `keras.Model`.
        include: See `tfl.sparsify`. Defaults to `None`.
        exclude: See `tfl.sparsify`. Defaults to `None`.
        groups: Sequence of the `Group`s of the model. Defaults to `None`: those that
            `channel_groups` finds.

    Returns:
        List of `Group`, and a dict of the paths of weights to reasons.

    Raises:
        ValueError: If `groups` are none, or those of a model with other weights.

    Example:

    >>> groups, skipped = prunable_groups(model)
    >>> [group.name for group in groups], list(skipped)
    (['hidden'], [])
    """
    paths = dict(zip(unique_paths(model.weights), model.weights, strict=True))
    candidates = channel_groups(model) if groups is None else _checked(groups, paths)
    selection = find_kernels(model, include, exclude)
    reasons = {key: selection.skipped.get(v.path, "") for key, v in paths.items()}
    chosen, skipped = [], {}
    for group in candidates:
        keys = [member.key for member in group.kernels]
        refused = [key for key in keys if reasons[key] in _REASONS_TO_STAY]
        if include is not None and not refused and all(reasons[key] for key in keys):
            skipped.update({key: reasons[key] for key in keys})
        elif refused:
            why = NOT_ALONE.format(path=refused[0], reason=reasons[refused[0]])
            skipped.update({key: reasons[key] or why for key in keys})
        else:
            chosen.append(group)
    kept = {member.key for group in chosen for member in group.kernels}
    return chosen, {key: why for key, why in skipped.items() if key not in kept}


def _checked(groups, weights):
    """Returns the groups, or raises a `ValueError` that names what does not fit the weights."""
    try:
        misfits = [_misfit(group, weights) for group in groups]
    except TypeError:  # It is no sequence.
        misfits = [repr(groups)]
    if misfits := [misfit for misfit in misfits if misfit]:
        raise ValueError(
            "Argument `groups` must be channel groups of this model, as "
            f"`tfl.channel_groups(model)` returns them. Received: {misfits[0]}"
        )
    return groups


def _misfit(group, weights):
    """Returns what a model's weights lack for a group, an empty string if it fits."""
    if not isinstance(group, Group):
        return f"{group!r}, which is no `Group`"
    for member in group.members:
        shape = tuple(weights[member.key].shape) if member.key in weights else None
        if shape is None:
            return f"group {group.name!r} of {member.key!r}, which the model does not have"
        if member.axis >= len(shape) or member.positions.max() >= shape[member.axis]:
            return (
                f"group {group.name!r}, with position {member.positions.max()} on axis "
                f"{member.axis} of {member.key!r}, which has the shape {shape}"
            )
    return ""
