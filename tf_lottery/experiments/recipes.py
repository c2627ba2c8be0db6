"""The recipe of a retraining, for a network by name or of the user's own."""

import keras

from tf_lottery.experiments.compiling import own_loss
from tf_lottery.experiments.labels import takes_logits
from tf_lottery.retrain import recipe
from tf_lottery.retrain.suitable_tweaks import fitting_tweaks

# The tweaks for a cross-entropy of several classes.
_OF_CLASSES = ("label_smoothing", "distillation")


def tweaks_for(model, steps, batches, teacher):
    """Returns the names of the tweaks that suit a model, its loss and the length of its training.

    Args:
        model: A `SparseModel`.
        steps: Integer, the length of the training.
        batches: `ShuffledBatches`.
        teacher: A built `keras.Model`, or `None`.
    """
    found = fitting_tweaks(model, steps, batches, teacher)
    if _other_loss(model) is None:
        return found
    return tuple(name for name in found if name not in _OF_CLASSES)


def prepare(model, settings, batches, teacher, resumed):
    """Returns the `Recipe` of a retraining.

    Args:
        model: A `SparseModel`.
        settings: `RetrainSettings` with `tweaks`.
        batches: `ShuffledBatches`.
        teacher: A built `keras.Model`, or `None`.
        resumed: Whether there is a checkpoint to go on from.

    Raises:
        ValueError: If a tweak lacks what it needs, or does not fit the loss of the model.
    """
    tweaks = settings.tweaks
    if resumed:
        # The checkpoint has the rescaled weights.
        tweaks = tuple(name for name in tweaks if name != "rescaled_initialization")
    own, loss = own_loss(model), _other_loss(model)
    if loss is not None and (unfit := [name for name in tweaks if name in _OF_CLASSES]):
        raise ValueError(
            f"Argument `tweaks` must not have {', '.join(unfit)} for a model that is compiled with "
            f"another loss than the cross-entropy of several classes. Received: {loss}"
        )
    return recipe(
        model,
        settings.epochs * len(batches),
        batches,
        tweaks=tweaks,
        teacher=teacher,
        annealed=settings.annealed,
        activation=settings.activation,
        alpha=settings.alpha,
        temperature=settings.temperature,
        keep_ghosts=settings.keep_ghosts,
        from_logits=own is None or takes_logits(model.model),
        loss=loss,
    )


def _other_loss(model):
    """Returns the loss of a compiled model, `None` if it is the cross-entropy of class numbers."""
    loss = own_loss(model)
    is_usual = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    names = ("sparse_categorical_crossentropy", None)
    return None if is_usual or getattr(loss, "__name__", loss) in names else loss
