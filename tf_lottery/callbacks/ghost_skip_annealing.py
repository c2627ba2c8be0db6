"""Fade ghost skips out."""

from tf_lottery.callbacks.tweak_annealing import TweakAnnealing
from tf_lottery.layers.ghost_skips import GhostSkips


class GhostSkipAnnealing(TweakAnnealing):
    """Takes the factor of a model's ghost skips from 1 to 0, linearly, while it trains.

    From `end_step` on the model computes what it does without them. "Training Your Sparse
    Neural Network Better with Any Mask" (arXiv:2206.12755) has ghost skips early in training
    only, and gives no schedule.

    Args:
        end_step: Integer > `begin_step`, from which on the factor is 0. Steps are the
            optimizer's, so a saved model goes on where it stopped.
        begin_step: Integer >= 0, until which it is 1. Defaults to `0`.
        frequency: Integer > 0, steps between two changes. Defaults to `None`: a 200th of the
            way, at least every step.
        **kwargs: `sparse_model` and `optimizer`, where the sparse model is a part of the one that
            is fitted; see `tfl.callbacks.SparsityCallback`.

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

    def initial_value(self):
        """Returns the factor at first."""
        return 1.0
