"""Fades ghost skips out."""

import keras

from tf_lottery.callbacks.tweak_annealing import TweakAnnealing
from tf_lottery.layers.ghost_skips import GhostSkips


@keras.saving.register_keras_serializable("tf_lottery")
class GhostSkipAnnealing(TweakAnnealing):
    """Reduces the factor of a model's ghost skips linearly from 1 to 0 during training.

    From `end_step` on, the skips have no effect. "Training Your Sparse Neural Network Better with
    Any Mask" (arXiv:2206.12755) uses ghost skips only early in training, and gives no schedule.

    Args:
        end_step: Integer > `begin_step`, the first step with factor 0. Steps are those of the
            optimizer, so training of a saved model continues the schedule.
        begin_step: Integer >= 0, the step at which the factor starts to fall. Defaults to `0`.
        frequency: Integer > 0, steps between two changes. Defaults to `None`: 1/200 of the
            steps from `begin_step` to `end_step`, but at least 1.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Raises:
        ValueError: If an argument is outside its range. In training, if the model has no ghost
            skips.

    Example:

    >>> skips = tfl.retrain.ghost_skips(convolutional)
    >>> convolutional.compile("sgd", loss)
    >>> annealing = GhostSkipAnnealing(end_step=2)
    >>> history = convolutional.fit(images, labels, epochs=3, callbacks=[annealing], verbose=0)
    >>> tfl.retrain.remove_ghost_skips(convolutional)
    """

    kind = GhostSkips
    variable_name = "factor"
    advice = "tfl.retrain.ghost_skips(model)"

    def initial_value(self) -> float:
        """Returns the initial factor."""
        return 1.0
