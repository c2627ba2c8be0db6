"""Checks whether a model can be made sparse."""

import warnings

import keras

from tf_lottery import _keras
from tf_lottery.layers import Masked

_STEPS = ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics")
# How many weights a message names for each reason.
_SHOWN = 3


def check_prunable_model(model):
    """Raises a `ValueError` if a model cannot be made sparse, and warns of ignored methods.

    Args:
        model: The object to check.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"Argument `model` must be a `keras.Model`. Received: {model!r}")
    if any(isinstance(layer, Masked) for layer in _keras.all_layers(model)):
        raise ValueError(
            "Argument `model` must not be sparse yet or contain a sparse model or layer; use "
            f"`tfl.prune` to prune further. Received: {model.name!r}, a {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(
            "Argument `model` must be built, so that its kernels exist: start it with a "
            "`keras.Input`, call `model.build(input_shape)` or call it on a batch. "
            f"Received: {model.name!r}, which is not built"
        )
    if not model.weights:
        raise ValueError(
            f"Argument `model` must have weights. Received: {model.name!r}, which has none"
        )
    _warn_of_what_is_ignored(model)


def by_reason(skipped):
    """Returns a dict of the reasons why weights are not pruned to the first of these weights.

    Args:
        skipped: Dict of paths to reasons.
    """
    reasons = {
        reason: [p for p, r in skipped.items() if r == reason] for reason in skipped.values()
    }
    return {
        reason: paths if len(paths) <= _SHOWN else [*paths[:_SHOWN], f"{len(paths) - _SHOWN} more"]
        for reason, paths in reasons.items()
    }


def _warn_of_what_is_ignored(model):
    ignored = [
        name for name in _STEPS if getattr(type(model), name) is not getattr(keras.Model, name)
    ]
    if ignored:
        warnings.warn(
            f"{type(model).__name__} overrides {ignored}, which a `SparseModel` does not call. "
            "Keep the outer model, and make a model or layer inside it sparse: build it with "
            "`inner = tfl.sparsify(inner, ...)`, or wrap a layer in `tfl.layers.Masked`, and give "
            "the sparse model to callbacks: `RigL(sparse_model=inner)`.",
            stacklevel=5,
        )
    if getattr(model, "preprocessor", None) is not None:
        warnings.warn(
            f"{type(model).__name__} preprocesses the data in its own `fit` and `predict`, but a "
            "`SparseModel` does not. Preprocess the data first, for example with "
            "`dataset.map(model.preprocessor)`.",
            stacklevel=5,
        )
