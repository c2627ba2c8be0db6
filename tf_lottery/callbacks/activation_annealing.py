"""Anneals soft activations to rectifiers."""

import keras

from tf_lottery.callbacks.tweak_annealing import TweakAnnealing
from tf_lottery.layers.soft_activations import SoftActivations


@keras.saving.register_keras_serializable("tf_lottery")
class ActivationAnnealing(TweakAnnealing):
    """Turns the soft activations of a model into rectifiers during training.

    The activations compute `f(beta x) / beta`, for example swish as `x * sigmoid(beta * x)`.
    `1 / beta` falls linearly to 0. The largest distance from the rectifier is proportional to it.
    From `end_step` on, the model computes the rectifiers themselves. "Training Your Sparse
    Neural Network Better with Any Mask" (arXiv:2206.12755) uses soft neurons only early in
    training, and gives no schedule.

    Args:
        end_step: Integer > `begin_step`, the first step with rectifiers. Steps are those of the
            optimizer, so training of a saved model continues the schedule.
        begin_step: Integer >= 0, the step at which `beta` starts to change. Defaults to `0`.
        frequency: Integer > 0, steps between two changes. Defaults to `None`: 1/200 of the
            steps from `begin_step` to `end_step`, but at least 1.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Raises:
        ValueError: If an argument is outside its range. In training, if the model has no soft
            activations.

    Example:

    >>> activations = tfl.retrain.soft_activations(sparse, "swish")
    >>> sparse.compile("adam", loss)
    >>> annealing = ActivationAnnealing(begin_step=2, end_step=8)
    >>> history = sparse.fit(x, y, epochs=10, callbacks=[annealing], verbose=0)
    >>> tfl.retrain.remove_soft_activations(sparse)
    """

    kind = SoftActivations
    variable_name = "softness"
    advice = "tfl.retrain.soft_activations(model)"

    def initial_value(self) -> float:
        """Returns the initial `1 / beta`."""
        return 1.0 / self.tweak.initial_beta
