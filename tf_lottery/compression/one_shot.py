"""Prunes a trained network in one step: Optimal Brain Surgeon, then a repair."""

from typing import Any

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
        model: A `SparseModel` that is not pruned yet.
        data: Unlabelled inputs, as for `tfl.repair`.
        sparsity: Float in (0, 1).
        scores: `"obs"` or `"magnitude"`, which chooses the weights within a kernel. Defaults to
            `"obs"`.
        repaired: Whether to refit the weights that are left. Defaults to `True`.
        budget: As in `tfl.prune`, instead of `sparsity` and `scores` for whole channels. Defaults
            to `None`.

    Returns:
        The `RepairReport`, or `None`.

    Example:

    >>> report = prune_in_one_step(tfl.sparsify(model), x, 0.5)
    >>> len(report.rows)
    2
    """
    before = Snapshot(model)
    if budget is not None:
        prune(model, budget=budget)
    else:
        masks = ranked_masks(model, kernel_scores(model), sparsity, scope="global")
        if scores == "obs":
            shares = {path: 1.0 - float(mask.mean()) for path, mask in masks.items()}
            prune(model, shares, scores="obs", data=data)
        else:
            model.set_masks(masks)
    return repair(model, data, reference=before) if repaired else None
