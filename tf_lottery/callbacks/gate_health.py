"""Detects problems with gates, and gives advice."""

import warnings

import numpy as np

from tf_lottery.kernel_ranking import warn_of_emptied

_TOO_MANY_UNDECIDED = 0.05
_TOO_FAR = 0.1
ALL_CLOSED = (
    "all gates are closed. Raise `initial_value` or lower `penalty` or "
    "`learning_rate_multiplier` of the `SoftGate`, or ask for a `target_density`"
)
_ADVICE = (
    "Raise the `initial_value` or lower the `penalty` of the `SoftGate`, set `exact_density=True`, "
    "which keeps weights in every kernel, or `exclude` these kernels in `tfl.sparsify`."
)


def warn_of_doubts(model, undecided, level, target_density=None):
    """Warns of undecided gates, a missed target density and kernels without weights.

    Args:
        model: A `SparseModel` with gates, at the end of a round.
        undecided: Float, the share of undecided gates.
        level: Integer, the round.
        target_density: Float, the density that was requested. Defaults to `None`: no target.
    """
    if undecided > _TOO_MANY_UNDECIDED and not model.selection.gate.stochastic:
        warnings.warn(
            f"{undecided:.1%} of the gates were undecided at the end of round {level}, so the "
            "accuracies with soft and hard gates can differ. Train longer rounds, or raise "
            "`learning_rate_multiplier` or `penalty` of the `SoftGate` to move gates faster.",
            stacklevel=3,
        )
    if target_density and abs(model.density / target_density - 1.0) > _TOO_FAR:
        warnings.warn(
            f"The density is {model.density:.4f} where {target_density} was asked for. Train "
            "more or longer rounds, with at least some hundred steps. For a higher density, raise "
            "the `initial_value` of the `SoftGate`. Or set `exact_density=True`.",
            stacklevel=3,
        )
    masks = model.get_masks()
    warn_of_emptied({path: np.ones_like(mask) for path, mask in masks.items()}, masks, _ADVICE)


def warn_of_soft_gates(model):
    """Warns if a model has soft gates after the end of its search.

    Args:
        model: A `SparseModel`.
    """
    if model.has_soft_gates:
        warnings.warn(
            "The gates are soft though the search has ended: a callback restored earlier "
            "weights. Start it when the search retrains.",
            stacklevel=2,
        )
