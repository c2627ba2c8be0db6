"""Handles zeros that a model has before it is made sparse."""

import warnings

import numpy as np
from keras import ops

# Random weights have a smaller share of exact zeros than this. 16-bit numbers are so coarse that
# 1 in 128 can be zero.
_LEAST_SHARE, _LEAST_SHARE_OF_COARSE = 0.01, 0.05


def adopt_zeros(model):
    """Sets masks that keep the zeros in a model's kernels pruned.

    Kernels that are completely zero, for example from an initializer, stay dense. A warning lists
    them.

    Args:
        model: A `SparseModel` without soft gates.

    Raises:
        ValueError: If the zeros of a kernel do not follow the pattern of the model.

    Example:

    >>> masked = tfl.sparsify(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]))
    >>> masked.model.set_weights([np.array([[1.0, 0.0], [0.0, 2.0]]), np.zeros(2)])
    >>> adopt_zeros(masked)
    >>> masked.sparsity
    0.5
    """
    values = _kernel_values(model)
    empty = [path for path, array in values.items() if not np.any(array)]
    masks = {path: array != 0 for path, array in values.items() if path not in empty}
    masks = {path: mask for path, mask in masks.items() if not mask.all()}
    matrices = model.to_matrices(masks)
    broken = [path for path, mask in matrices.items() if not model.pattern.holds(mask)]
    if broken:
        raise ValueError(
            "Argument `pattern` must be one that the existing zeros follow if `keep_zeros=True`. "
            "Leave kernels out with `exclude`, or use 'unstructured'. "
            f"Received: pattern={str(model.pattern)!r}, zeros in {broken} that do not follow it"
        )
    if empty:
        warnings.warn(
            f"Kernels that are wholly zero stay dense: {empty}. With all weights pruned, they "
            "could not learn.",
            stacklevel=3,
        )
    model.set_masks(masks)


def warn_of_zeros(model):
    """Warns of zeros that are not masked, so that training changes them.

    Args:
        model: A `SparseModel`.
    """
    masks = {} if model.has_soft_gates else model.get_masks()
    shares = {}
    for path, array in _kernel_values(model).items():
        revived = np.count_nonzero((array == 0) & masks.get(path, True))
        least = _LEAST_SHARE if array.dtype.itemsize >= 4 else _LEAST_SHARE_OF_COARSE
        by_chance = revived < max(2, least * array.size)
        if model.kernels[path].trainable and not by_chance and not _is_initial(array):
            shares[path] = f"{revived / array.size:.0%}"
    if shares:
        warnings.warn(
            "Training will revive zeros of these kernels, with their shares of zeros: "
            f"{shares}. To keep them pruned, use `tfl.sparsify(model, keep_zeros=True)`.",
            stacklevel=3,
        )


def _is_initial(array):
    """Returns whether an initializer, such as an identity or constant, may have set the zeros."""
    others = array[array != 0]
    return others.size == 0 or bool(np.all(others == others[0]))


def _kernel_values(model):
    return {path: ops.convert_to_numpy(kernel) for path, kernel in model.kernels.items()}
