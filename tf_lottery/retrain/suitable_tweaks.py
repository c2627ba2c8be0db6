"""Which tweaks suit a model and the length of its training."""

import warnings

from tf_lottery.checks import choice
from tf_lottery.retrain._ghost_skips import find_convolutions
from tf_lottery.retrain._soft_activations import find_rectifiers

TWEAKS = (
    "soft_activations",
    "ghost_skips",
    "rescaled_initialization",
    "label_smoothing",
    "distillation",
)
# Ghost skips and a teacher cost more than they give in a shorter training.
LONG_TRAINING = 10_000


def chosen_tweaks(model, steps, tweaks, batches, teacher):
    """Returns the names of the tweaks to retrain with, in the order of `TWEAKS`.

    Args:
        model: A `SparseModel`.
        steps: Integer, the length of the training.
        tweaks: As in `recipe`; `None` for all that suit.
        batches: As in `recipe`.
        teacher: As in `recipe`.

    Raises:
        ValueError: If a name is unknown, or a tweak lacks what it needs.
    """
    needed = {
        "rescaled_initialization": ("batches", batches),
        "distillation": ("teacher", teacher),
    }
    if tweaks is None:
        return fitting_tweaks(model, steps, batches, teacher)
    if isinstance(tweaks, str):
        raise ValueError(f"Argument `tweaks` must be a tuple of names. Received: tweaks={tweaks!r}")
    for name in tweaks:
        choice("tweaks", name, TWEAKS)
        argument, value = needed.get(name, ("", model))
        if value is None:
            raise ValueError(
                f"Argument `{argument}` must be given for {name!r}. Received: {argument}=None"
            )
    return tuple(name for name in TWEAKS if name in tweaks)


def fitting_tweaks(model, steps, batches, teacher):
    """Returns the names of the tweaks that suit a model and the length of its training.

    Args:
        model: A `SparseModel`.
        steps: Integer, the length of the training.
        batches: As in `recipe`.
        teacher: As in `recipe`.
    """
    if teacher is not None and not is_long(steps):
        warnings.warn(
            f"The teacher is not used: in a training of {steps:,} steps, below {LONG_TRAINING:,}, "
            "distillation may cost accuracy. Train longer, or name 'distillation' in `tweaks`.",
            stacklevel=4,
        )
    fits = {
        "soft_activations": bool(find_rectifiers(model)),
        "ghost_skips": is_long(steps) and bool(find_convolutions(model)[0]),
        "rescaled_initialization": batches is not None,
        "distillation": is_long(steps) and teacher is not None,
    }
    return tuple(name for name in TWEAKS if fits.get(name, True))


def is_long(steps):
    """Returns whether a training is long enough for ghost skips and distillation.

    Args:
        steps: Integer, the length of the training.
    """
    return steps >= LONG_TRAINING
