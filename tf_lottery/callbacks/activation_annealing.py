"""From soft activations back to rectifiers."""

from tf_lottery.callbacks.tweak_annealing import TweakAnnealing
from tf_lottery.layers.soft_activations import SoftActivations


class ActivationAnnealing(TweakAnnealing):
    """Moves the soft activations of a model to rectifiers while it trains.

    They compute `f(beta x) / beta`, swish as `x * sigmoid(beta * x)`. `1 / beta`, to which
    the largest distance from the rectifier is proportional, falls linearly to 0. From
    `end_step` on the model computes with the rectifiers themselves. "Training Your Sparse
    Neural Network Better with Any Mask" (arXiv:2206.12755) has soft neurons early in training
    only, and gives no schedule.

    Args:
        end_step: Integer > `begin_step`, from which on the model has rectifiers. Steps are
            the optimizer's, so a saved model goes on where it stopped.
        begin_step: Integer >= 0, until which `beta` stays as it is. Defaults to `0`.
        frequency: Integer > 0, steps between two changes. Defaults to `None`: a 200th of the
            way, at least every step.
        **kwargs: `sparse_model` and `optimizer`, where the sparse model is a part of the one that
            is fitted; see `tfl.callbacks.SparsityCallback`.

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

    def initial_value(self):
        """Returns `1 / beta` at first."""
        return 1.0 / self.tweak.initial_beta
