"""Give back the model that was made sparse."""

from tf_lottery.model import check_sparse_model


def strip(model):
    """Gives back the model that was made sparse, zeros written into its kernels.

    Soft gates are settled by it, which ends their round. Soft activations that were not
    annealed to the end are written into the layers.

    Args:
        model: A `SparseModel`.

    Returns:
        The very model that `sparsify` was given, now sparse by its weights alone. It can
        be saved, exported and loaded where `tf_lottery` is not installed, unless it has a soft
        activation that Keras does not have.

    Raises:
        ValueError: If `model` is not a `SparseModel`, none of its soft gates is open, or it has
            ghost skips that are in effect.

    Example:

    >>> tfl.strip(tfl.sparsify(model)) is model
    True
    """
    check_sparse_model(model)
    if model.has_soft_gates and not model.density:
        raise ValueError(
            "Argument `model` must have gates above 0, or nothing would be left of it; train it "
            "with `tfl.callbacks.ContinuousSparsification`. "
            f"Received: {model.name!r} with density 0"
        )
    for tweak in model.masked.tweaks:
        tweak.check_over()
    for tweak in model.masked.tweaks:
        tweak.settle(model.model)
    model.masked.apply_masks()
    return model.model
