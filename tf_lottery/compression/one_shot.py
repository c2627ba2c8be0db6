"""Prunes a trained network in one step: Optimal Brain Surgeon, then a repair."""

from typing import Any

import numpy as np

from tf_lottery.calibration import RepairReport, repair
from tf_lottery.kernel_ranking import kernel_scores, ranked_masks
from tf_lottery.model import SparseModel
from tf_lottery.pruning import prune
from tf_lottery.snapshot import Snapshot


def prune_in_one_step(
    model: SparseModel,
    data: Any,
    sparsity: float,
    *,
    scores: str = "obs",
    repaired: bool = True,
    budget: dict[str, float] | None = None,
) -> RepairReport | None:
    """Prunes a trained network, and refits what is left, without labels.

    The kernels get the sparsities that ranking the magnitudes of all weights together gives.

    Args:
        model: A `SparseModel` that is not pruned yet; it may have zeros.
        data: Unlabelled inputs, as for `tfl.repair`.
        sparsity: Float in (0, 1).
        scores: `"obs"` or `"magnitude"`, which chooses the weights within a kernel. Defaults to
            `"obs"`.
        repaired: Whether to refit the weights that are left. Defaults to `True`.
        budget: As in `tfl.prune`, instead of `sparsity` and `scores` for whole channels. Defaults
            to `None`.

    Returns:
        The `RepairReport`, or `None`.

    Raises:
        ValueError: If `sparsity` would prune nothing but zeros, or the data do not fit.

    Example:

    >>> report = prune_in_one_step(tfl.sparsify(model), x, 0.5)
    >>> len(report.rows)
    2
    """
    before = Snapshot(model)
    if budget is not None:
        prune(model, budget=budget)
    else:
        magnitudes = kernel_scores(model)
        masks = ranked_masks(model, magnitudes, sparsity, scope="global")
        _check_change(magnitudes, masks, sparsity)
        if scores == "obs":
            shares = {path: 1.0 - float(mask.mean()) for path, mask in masks.items()}
            prune(model, shares, scores="obs", data=data)
        else:
            model.set_masks(masks)
    return repair(model, data, reference=before) if repaired else None


def _check_change(magnitudes, masks, sparsity):
    """Raises a `ValueError` if all weights that masks prune are zero already."""
    pruned = np.concatenate([magnitudes[path][~mask] for path, mask in masks.items()])
    if pruned.size and not pruned.any():
        values = np.concatenate([np.ravel(array) for array in magnitudes.values()])
        share = float(np.mean(values == 0))
        raise ValueError(
            f"Argument `sparsity` must be above {share:.4g}, the share of zeros that the model has "
            f"already. Received: sparsity={sparsity}"
        )
