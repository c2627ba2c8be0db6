"""Detects that a sparse model was copied without its masks."""

import warnings

from tf_lottery import _keras
from tf_lottery.sparsity import masks as mask_ops


def sparsity_of(masked):
    """Returns the fraction of weights that a wrapper prunes. Works while its call is traced.

    Returns `None` if the masks cannot be read: on JAX, Keras frees variables during training.

    Args:
        masked: A built `tf_lottery.layers.Masked`.
    """
    if not all(map(_keras.is_stored, masked.selection.variables)):
        return None
    with _keras.stored_values():
        masks = masked.get_masks()
    return 1.0 - mask_ops.density(dict(enumerate(masks))) if masks else 0.0


def warn_if_missing(masked, expected):
    """Warns if a wrapper made from a configuration has another sparsity than the original.

    Functions like `keras.models.clone_model` copy configurations, which hold no masks.

    Args:
        masked: A built `tf_lottery.layers.Masked`.
        expected: Float, the sparsity of the original.

    Returns:
        `None`, or `expected` if the sparsity cannot be read yet.
    """
    found = sparsity_of(masked)
    if found is None:
        return expected
    if abs(found - expected) > 1e-9:
        warnings.warn(
            f"{masked.layer.name!r} was made from the configuration of a model of sparsity "
            f"{expected:.3f}, which holds no masks, and has sparsity {found:.3f}. Copy the masks "
            "with the weights, by `clone.set_weights(model.get_weights())`, or alone, by "
            "`clone.set_masks(model.get_masks())`.",
            stacklevel=3,
        )
    return None
