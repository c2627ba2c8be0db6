"""Detects pruning that other callbacks undo, or files that were saved before it ended."""

import warnings


def warn_of_undone_pruning(model, sparsity):
    """Warns if a model, or a file that it was saved to, is less sparse than it was pruned to be.

    Args:
        model: A `SparseModel` after training.
        sparsity: Float, its sparsity after it was last pruned.
    """
    for path, saved in model.saves.items():
        if saved is None:
            undone = not model.has_soft_gates
            state = "with soft gates, but the model has settled ones"
        else:
            undone = saved < model.sparsity - 1e-9
            state = f"at sparsity {saved:.3f}, but the model has {model.sparsity:.3f}"
        if undone:
            warnings.warn(
                f"The file {path!r} was last written {state} after training. Start "
                "`ModelCheckpoint(save_best_only=True)` when pruning has ended, or save the "
                "model after `fit`.",
                stacklevel=2,
            )
    if model.sparsity < sparsity - 1e-9:
        warnings.warn(
            f"The sparsity was {sparsity:.3f} and is {model.sparsity:.3f} after training: "
            "a callback restored earlier weights and masks. Start callbacks like "
            "`EarlyStopping(restore_best_weights=True)` when pruning has ended.",
            stacklevel=2,
        )
