"""Checks of models that are given as arguments."""

from typing import Any

import keras

from tf_lottery.layers import Gates
from tf_lottery.layers.weights import unique_paths
from tf_lottery.model.sparse_model import SparseModel


def named_weights(model: keras.Layer) -> dict[str, keras.Variable]:
    """Returns a dict of names to the weights of a model, or of the model inside a `SparseModel`.

    Args:
        model: A built `keras.Layer` or model. The names are paths, made unique. Kernels of a
            `SparseModel` keep the paths that they had when it was made.

    Example:

    >>> from tf_lottery.model import named_weights
    >>> {name: tuple(weight.shape) for name, weight in named_weights(sparse).items()}
    {'net/hidden/kernel': (8, 10), 'net/hidden/bias': (10,), ...}
    """
    if isinstance(model, SparseModel):
        return model.named_weights
    return dict(zip(unique_paths(model.weights), model.weights, strict=True))


def check_sparse_model(model: Any, name: str = "model") -> SparseModel:
    """Returns `model`, or raises a `ValueError` if it is not a `SparseModel`.

    Args:
        model: The object to check.
        name: String, the argument's name for the message. Defaults to `"model"`.

    Example:

    >>> from tf_lottery.model import check_sparse_model
    >>> check_sparse_model(sparse) is sparse
    True
    """
    if not isinstance(model, SparseModel):
        raise ValueError(
            f"Argument `{name}` must be a `SparseModel`, made by `tfl.sparsify(model)`. "
            f"Received: {model!r}"
        )
    return model


def check_settled(model: Any, name: str = "model") -> SparseModel:
    """Returns a `SparseModel`, or raises a `ValueError` if training decides about its masks.

    Args:
        model: The object to check.
        name: String, the argument's name for the message. Defaults to `"model"`.

    Example:

    >>> from tf_lottery.model import check_settled
    >>> check_settled(sparse) is sparse
    True
    """
    if not check_sparse_model(model, name).has_soft_gates:
        return model
    if isinstance(model.selection, Gates):
        advice = "Train it with `tfl.callbacks.ContinuousSparsification`"
    else:
        advice = "Settle it by `model.apply_masks()`"
    raise ValueError(
        f"Argument `{name}` must not have soft gates or another soft selection, since its masks "
        f"are not final. {advice}, or make it by `tfl.sparsify(model)` without `gate` and "
        f"`selection`. Received: {model.name!r} with {type(model.selection).__name__}"
    )
