"""Turns the scores of all kernels into the masks of a model."""

import numpy as np

from tf_lottery import hosts
from tf_lottery.checks import fraction
from tf_lottery.kernel_ranking import (
    advice_for_emptied,
    ranked_masks,
    target_sparsity,
    warn_of_emptied,
)
from tf_lottery.model import check_settled


def target_sparsities(model, sparsity, scope, distribution):
    """Checks the arguments and returns the sparsity that every kernel should have.

    Args:
        model: A `SparseModel`.
        sparsity: Float in [0, 1).
        scope: `"global"` or `"layer"`.
        distribution: Name, function, dict or `None`, as in `tfl.sparsify`.

    Returns:
        Float with `scope="global"`, else a dict of the names of kernels, or of channel groups, to
        floats.

    Raises:
        ValueError: If an argument is outside its range.
    """
    fraction("sparsity", sparsity)
    check_settled(model)
    target = target_sparsity(model, sparsity, distribution=distribution, scope=scope)
    if scope == "layer" and not isinstance(target, dict):
        return dict.fromkeys(model.prunable_names(), target)
    return target


def keep_highest(model, scores, target, masks, floor):
    """Returns masks that keep the highest scores of unpruned weights, in the model's pattern.

    Args:
        model: A `SparseModel`.
        scores: List of tensors or arrays in the shapes and the order of `model.kernels`.
        target: What `target_sparsities` returns.
        masks: Dict of kernel paths to the masks to refine.
        floor: Integer >= 0, the minimum number of weights that every kernel keeps.

    Raises:
        ValueError: If a score is not finite.
    """
    scores = {
        path: hosts.to_numpy(score) for path, score in zip(model.kernels, scores, strict=True)
    }
    broken = [path for path, score in scores.items() if not np.all(np.isfinite(score))]
    if broken:
        raise ValueError(
            "Scores must be finite numbers; check the data, the loss and the weights. "
            f"Received: scores of {broken} that are not finite"
        )
    scope = "layer" if isinstance(target, dict) else "global"
    return ranked_masks(model, scores, target, scope=scope, masks=masks, floor=floor)


def set_masks(model, masks, floor):
    """Sets the masks of a model, warns if a kernel has no weight left and returns them.

    Args:
        model: A `SparseModel`.
        masks: Dict of kernel paths to boolean arrays.
        floor: Integer, the minimum number of weights that every kernel should keep.
    """
    warn_of_emptied(model.get_masks(), masks, advice_for_emptied(floor), stacklevel=4)
    model.set_masks(masks)
    return masks
