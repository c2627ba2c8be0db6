"""Adds, finds and removes tweaks of retraining in a sparse model."""

import re

from tf_lottery.model import SparseModel, check_sparse_model


def add_tweak(model, tweak):
    """Adds a tweak to a model.

    Args:
        model: A `SparseModel`. It must be compiled afterwards if the tweak has trainable weights.
        tweak: A `tf_lottery.layers.Part`.

    Returns:
        The tweak.

    Raises:
        ValueError: If `model` is not a `SparseModel` or already has a tweak of that class.
    """
    if check_sparse_model(model).find_part(type(tweak)) is not None:
        raise ValueError(
            f"Argument `model` must not have {_name(type(tweak))} yet; remove them first. "
            f"Received: {model.name!r}"
        )
    model.add_part(tweak)
    return tweak


def require_tweak(model, kind, advice):
    """Returns the tweak of a given class, or raises a `ValueError` if the model has none.

    Args:
        model: A `SparseModel`.
        kind: Subclass of `tf_lottery.layers.Part`.
        advice: String, the call that adds the tweak.
    """
    tweak = check_sparse_model(model).find_part(kind)
    if tweak is None:
        raise ValueError(
            f"Argument `model` must have {_name(kind)}; call `{advice}` first. "
            f"Received: {model.name!r}"
        )
    return tweak


def check_untweaked(model, name="model"):
    """Raises a `ValueError` if tweaks change what a model computes.

    Args:
        model: Any `keras.Model`.
        name: String, the argument's name for the message. Defaults to `"model"`.
    """
    tweaks = model.tweaks if isinstance(model, SparseModel) else []
    if found := [_name(type(tweak)) for tweak in tweaks if tweak.changes_call]:
        raise ValueError(
            f"Argument `{name}` must not have tweaks of retraining in its forward pass; remove "
            f"them first, see `tfl.retrain`. Received: {model.name!r} with {found}"
        )


def remove_tweak(model, kind):
    """Removes a tweak from a model.

    Args:
        model: A `SparseModel`. It must be compiled again before training if the tweak has
            trainable weights.
        kind: Subclass of `tf_lottery.layers.Part`. Nothing happens if the model has none.
    """
    if (tweak := check_sparse_model(model).find_part(kind)) is not None:
        model.remove_part(tweak)


def _name(kind):
    return " ".join(word.lower() for word in re.findall("[A-Z][a-z]*", kind.__name__))
