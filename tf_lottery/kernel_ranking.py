"""Ranks the weights of all kernels of a sparse model, and makes masks of the highest scores."""

import warnings

import numpy as np

from tf_lottery.checks import choice, fraction
from tf_lottery.layers.kernels import misfit
from tf_lottery.sparsity import distributions, group_scores, patterns
from tf_lottery.sparsity import masks as mask_ops
from tf_lottery.sparsity import scores as score_functions
from tf_lottery.structured.selection import channel_masks, scores_of_channels


def kernel_scores(model, scores="magnitude", *, initial=None, seed=0, pattern=None):
    """Returns a dict of kernel paths to the scores of their weights.

    For scores of channels, it returns a dict of the names of groups to one score for each channel.

    Args:
        model: A `SparseModel`.
        scores: Name or function, or scores of channels; see `tfl.prune`. Defaults to
            `"magnitude"`.
        initial: Dict of kernel paths to the weights before training, or a `Snapshot`, for
            scores that compare with them. Defaults to `None`.
        seed: Integer or list of integers, for `scores="random"`. Defaults to `0`.
        pattern: A `Pattern`. Defaults to `None`: that of the model.

    Raises:
        ValueError: If the scores are unknown, those of channels and the model has no groups, or
            not numbers.

    Example:

    >>> {path: array.shape for path, array in kernel_scores(sparse, "random").items()}
    {'net/hidden/kernel': (8, 10), 'net/output/kernel': (10, 2)}
    """
    scores = named_scores(scores)
    if isinstance(scores, dict) or scores in group_scores.SCORES.values():
        found = scores_of_channels(model, scores, pattern)
    else:
        initial = getattr(initial, "weights", initial) or {}
        rng = np.random.default_rng(seed)
        found = {
            path: scores(kernel, initial_weights=initial.get(path), rng=rng)
            for path, kernel in model.get_kernels().items()
        }
    if bad := [name for name, array in found.items() if np.isnan(array).any()]:
        raise ValueError(
            "Argument `scores` must be numbers; look for NaN in the weights of the model. "
            f"Received: at least one NaN in {bad}"
        )
    return found


def named_scores(scores):
    """Returns the function that scores weights or the channels of groups, or scores themselves.

    Args:
        scores: See `tfl.prune`.

    Raises:
        ValueError: If it is neither a function, nor a known name, nor a dict.

    Example:

    >>> named_scores("magnitude").__name__, named_scores("norm_scale").__name__
    ('magnitude', 'norm_scale')
    """
    if isinstance(scores, dict):
        return scores
    if scores in group_scores.OF_WEIGHTS:
        return group_scores.get(scores)
    if isinstance(scores, str) and scores in group_scores.SCORES:
        raise ValueError(
            "Argument `scores` must need no data, or be measured before: "
            f"`scores=tfl.channel_scores(model, {scores!r}, batches)`. Received: scores={scores!r}"
        )
    return score_functions.get(scores)


def ranked_masks(model, scores, sparsity, *, pattern=None, scope="layer", masks=None, floor=1):
    """Returns the masks that keep a model's highest scores. The model does not change.

    Args:
        model: A `SparseModel`.
        scores: Dict of the paths of all kernels to float arrays with their shapes, or of the names
            of channel groups to one score for each channel.
        sparsity: Float in [0, 1), or the result of `target_sparsity`.
        pattern: A pattern, or its name; see `tfl.prune`. Defaults to `None`: that of the
            model.
        scope: `"layer"`, `"global"` or `"isomorphic"`; see `tfl.prune`. Defaults to `"layer"`.
        masks: Dict of the paths of all kernels to masks. Weights that they prune stay pruned.
            Defaults to `None`: those of the model.
        floor: Integer >= 0, the minimum number of weights that every kernel keeps; see
            `tfl.prune`. Defaults to `1`.

    Returns:
        Dict of kernel paths to boolean arrays.

    Raises:
        ValueError: If an argument is outside its range or the pattern divides no kernel.

    Example:

    >>> scores = {path: np.abs(kernel) for path, kernel in sparse.get_kernels().items()}
    >>> sparse.set_masks(ranked_masks(sparse, scores, sparsity=0.8))
    """
    paths, pattern = divided_kernels(model, pattern)
    before = model.get_masks() if masks is None else masks
    if model.couples(pattern):
        return channel_masks(
            model, scores, sparsity, pattern=pattern, scope=scope, masks=before, floor=floor
        )
    _check_scope_of_kernels(scope)
    sparsity = of_divided(sparsity, paths, before)
    ranked, refined = (
        model.to_matrices({path: arrays[path] for path in paths}) for arrays in (scores, before)
    )
    kept = mask_ops.top_k_masks(
        ranked, sparsity, pattern=pattern, scope=scope, masks=refined, floor=floor
    )
    return {**before, **model.from_matrices(kept)}


def of_divided(sparsity, paths, kernels):
    """Returns the sparsity without those of kernels that a pattern does not divide.

    Args:
        sparsity: Float, or dict of the names of kernels or channel groups to floats.
        paths: The paths of the kernels that the pattern divides.
        kernels: The paths of all kernels.
    """
    if not isinstance(sparsity, dict):
        return sparsity
    return {name: s for name, s in sparsity.items() if name in paths or name not in kernels}


def _check_scope_of_kernels(scope):
    if scope == "isomorphic":
        raise ValueError(
            "Argument `scope` must be 'layer' or 'global' for a pattern that prunes each kernel "
            "by itself; 'isomorphic' compares channel groups. Received: scope='isomorphic'"
        )


def target_sparsity(model, sparsity, *, distribution=None, scope="layer", pattern=None):
    """Returns the target sparsity of a model, or of each kernel if there is a distribution.

    Args:
        model: A `SparseModel`.
        sparsity: Float in [0, 1). With `scope="layer"`, it can be a dict of kernel paths to
            floats.
        distribution: See `tfl.sparsify`. Defaults to `None`.
        scope: `"layer"`, `"global"` or `"isomorphic"`. Defaults to `"layer"`.
        pattern: A `Pattern`. Defaults to `None`: that of the model.

    Returns:
        `sparsity`, or a dict of the names of kernels, or of channel groups, to floats if there is
        a distribution.

    Raises:
        ValueError: If an argument is outside its range or fits no kernel.

    Example:

    >>> target_sparsity(sparse, 0.9, distribution={"output": 0.5})
    {'net/hidden/kernel': 0.9, 'net/output/kernel': 0.5}
    """
    choice("scope", scope, mask_ops.GROUP_SCOPES)
    if isinstance(sparsity, dict) and distribution is None:
        return {name: fraction(f"sparsity[{name!r}]", s) for name, s in sparsity.items()}
    fraction("sparsity", sparsity)
    if distribution is None:
        return sparsity
    if scope != "layer":
        raise ValueError(
            "Argument `distribution` must be `None` unless `scope='layer'`. With `scope='global'` "
            f"the scores decide how sparse each kernel is. Received: {distribution!r}"
        )
    if model.couples(pattern):
        matrices = model.to_matrices(model.get_masks(), pattern or model.pattern)
        shapes = {name: matrix.shape for name, matrix in matrices.items()}
    else:
        shapes = {path: tuple(kernel.shape) for path, kernel in model.kernels.items()}
    return distributions.spread(distribution, shapes, sparsity)


def divided_kernels(model, pattern=None, stacklevel=4):
    """Returns the paths of the kernels that a pattern divides, and the pattern.

    Warns if it does not divide some kernels.

    Args:
        model: A `SparseModel`.
        pattern: A pattern, or its name. Defaults to `None`: that of the model.
        stacklevel: Integer, as in `warnings.warn`. Defaults to `4`: two calls above the function
            that calls this one.

    Raises:
        ValueError: If the pattern divides no kernel.
    """
    pattern = model.pattern if pattern is None else patterns.get(pattern)
    if not pattern.structured or model.couples(pattern):
        return list(model.kernels), pattern
    if isinstance(pattern, patterns.Channel):
        raise ValueError(
            "Argument `pattern` must be another than 'channel' for a model without channel groups; "
            "make it by `tfl.sparsify(model, pattern='channel')`, which finds them. "
            f"Received: pattern='{pattern}' for {model.name!r}, made with '{model.pattern}'"
        )
    reasons = {path: misfit(shape, pattern) for path, shape in model.matrix_shapes.items()}
    left_out = {path: reason for path, reason in reasons.items() if reason}
    if len(left_out) == len(reasons):
        raise ValueError(
            "Argument `pattern` must divide at least one kernel. "
            f"Received: pattern={str(pattern)!r}, {reasons}"
        )
    if left_out:
        warnings.warn(
            f"Some kernels keep their masks: {left_out}. Leave them out with `exclude`, or create "
            f"the model with `tfl.sparsify(model, pattern='{pattern}')`, which leaves them out.",
            stacklevel=stacklevel,
        )
    return [path for path in reasons if path not in left_out], pattern


def warn_of_emptied(before, masks, advice, stacklevel=3):
    """Warns if pruning left no weight in a kernel.

    Args:
        before: Dict of kernel paths to boolean arrays.
        masks: Dict of the same paths to the masks after pruning.
        advice: String, what the user can do about it.
        stacklevel: Integer, as in `warnings.warn`. Defaults to `3`: the caller of the function
            that calls this one.
    """
    emptied = [path for path in masks if before[path].any() and not masks[path].any()]
    if emptied:
        warnings.warn(
            f"Pruning left no weight in {emptied}, so that no signal passes them. {advice}",
            stacklevel=stacklevel,
        )


def advice_for_emptied(floor):
    """Returns advice for the user if pruning has emptied a kernel.

    Args:
        floor: Integer, the minimum number of weights that was requested for every kernel.
    """
    if floor:
        return (
            f"The sparsity leaves too few weights for `floor={floor}` in every kernel. Prune the "
            "original model again, with a lower sparsity."
        )
    return (
        "Pruned weights stay pruned, so prune the original model again with `floor=1`, which "
        "keeps weights in every kernel, or `exclude` these kernels in `tfl.sparsify`."
    )
