"""Give tweaks of retraining to a sparse model, find them and take them away."""

import re

from tf_lottery.model import SparseModel, check_sparse_model


def add_tweak(model, tweak):
    """Gives a model a tweak.

    Args:
        model: A `SparseModel`. It has to be compiled afterwards if the tweak has weights that
            are trained.
        tweak: A `tf_lottery.layers.Part`.

    Returns:
        The tweak.

    Raises:
        ValueError: If `model` is not a `SparseModel` or has a tweak of that kind.
    """
    if check_sparse_model(model).find_part(type(tweak)) is not None:
        raise ValueError(
            f"Argument `model` must not have {_name(type(tweak))} yet; take them away first. "
            f"Received: {model.name!r}"
        )
    model.add_part(tweak)
    return tweak


def require_tweak(model, kind, advice):
    """Returns the tweak of a model that is of a class, or raises a `ValueError`.

    Args:
        model: A `SparseModel`.
        kind: Subclass of `tf_lottery.layers.Part`.
        advice: String, what to call to give it one.
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
            f"Argument `{name}` must not have tweaks of retraining in its forward pass; take them "
            f"away first, see `tfl.retrain`. Received: {model.name!r} with {found}"
        )


def remove_tweak(model, kind):
    """Takes a tweak from a model.

    Args:
        model: A `SparseModel`. It has to be compiled again, before it is trained, if the
            tweak has weights that are trained.
        kind: Subclass of `tf_lottery.layers.Part`. Nothing happens if the model has none.
    """
    if (tweak := check_sparse_model(model).find_part(kind)) is not None:
        model.remove_part(tweak)


def _name(kind):
    return " ".join(word.lower() for word in re.findall("[A-Z][a-z]*", kind.__name__))
