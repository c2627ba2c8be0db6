"""Handles zeros that a model has before it is made sparse."""

import warnings

import numpy as np

from tf_lottery import hosts
from tf_lottery.sparsity.groups import combined_masks

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
        ValueError: If the zeros of a kernel do not follow the pattern of the model, or the
            kernels of a channel are zero, and its bias or another companion is not.

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
    others = {path: np.ones(array.shape, bool) for path, array in values.items()}
    checked = {**others, **masks} if model.couples() else masks
    matrices = model.to_matrices(checked, model.pattern)
    broken = [path for path, mask in matrices.items() if not model.pattern.holds(mask)]
    if broken:
        raise ValueError(
            "Argument `pattern` must be one that the existing zeros follow if `keep_zeros=True`. "
            "Leave kernels out with `exclude`, or use 'unstructured'. "
            f"Received: pattern={str(model.pattern)!r}, zeros in {broken} that do not follow it"
        )
    if model.couples():
        _check_companions(model, matrices)
    if empty:
        warnings.warn(
            f"Kernels that are wholly zero stay dense: {empty}. With all weights pruned, they "
            "could not learn.",
            stacklevel=3,
        )
    model.set_masks(masks)


def _check_companions(model, matrices):
    """Raises a `ValueError` if pruning the channels that are zero would change the outputs."""
    members = model.wrapper.named_members()
    shapes = {key: tuple(variable.shape) for key, variable in members.items()}
    kept = {name: matrix.any(axis=0) for name, matrix in matrices.items()}
    masks = combined_masks(model.groups, kept, shapes)
    changed = [
        key
        for key in masks
        if key not in model.kernels and np.any(hosts.to_numpy(members[key])[~masks[key]])
    ]
    if changed:
        raise ValueError(
            "Argument `keep_zeros` must be `False` if channels with kernels of zeros are not zero "
            "themselves. Remove them before by `tfl.compact`, or use the pattern 'unstructured'. "
            f"Received: keep_zeros=True, pattern={str(model.pattern)!r}, with values other than "
            f"zero in {changed}"
        )


def warn_of_zeros(model):
    """Warns of zeros that are not masked, so that training changes them.

    Args:
        model: A `SparseModel`.
    """
    values = _kernel_values(model)
    masks = {} if model.has_soft_gates else model.get_masks()
    revived = {path: (array == 0) & masks.get(path, True) for path, array in values.items()}
    if shares := _notable_shares(model, values, revived):
        warnings.warn(
            "Training will revive zeros of these kernels, with their shares of zeros: "
            f"{shares}. To keep them pruned, use `tfl.sparsify(model, keep_zeros=True)`.",
            stacklevel=3,
        )
    values = _unselected_values(model)
    revived = {path: (array == 0) & _used(array) for path, array in values.items()}
    if shares := _notable_shares(model, values, revived):
        warnings.warn(
            "Training will revive zeros of these weights, which are not selected for pruning, with "
            f"their shares of zeros: {shares}. To keep them pruned, select them too, by `include`, "
            "with `keep_zeros=True`.",
            stacklevel=3,
        )


def _notable_shares(model, values, revived):
    """Returns a dict of paths to shares of zeros, of weights with more than chance explains."""
    weights, shares = model.named_weights, {}
    for path, array in values.items():
        number = np.count_nonzero(revived[path])
        least = _LEAST_SHARE if array.dtype.itemsize >= 4 else _LEAST_SHARE_OF_COARSE
        by_chance = number < max(2, least * array.size)
        if weights[path].trainable and not by_chance and not _is_initial(array):
            shares[path] = f"{number / array.size:.0%}"
    return shares


def _unselected_values(model):
    """Returns a dict of paths to arrays, of weights of rank two or more that have no mask."""
    masked = {id(variable) for variable in [*model.kernels.values(), *model.wrapper.companions]}
    return {
        path: hosts.to_numpy(weight)
        for path, weight in model.named_weights.items()
        if id(weight) not in masked and len(weight.shape) >= 2
    }


def _used(array):
    """Returns where rows of a matrix have values. Embeddings of unknown words often have none."""
    return np.any(array, axis=1, keepdims=True) if array.ndim == 2 else True


def _is_initial(array):
    """Returns whether an initializer, such as an identity or constant, may have set the zeros."""
    others = array[array != 0]
    return others.size == 0 or bool(np.all(others == others[0]))


def _kernel_values(model):
    return {path: hosts.to_numpy(kernel) for path, kernel in model.kernels.items()}
