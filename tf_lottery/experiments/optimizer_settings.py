"""The optimizer of an experiment: its kind, learning rate, schedule and weight decay."""

import dataclasses
import math

import keras

from tf_lottery.checks import choice, fraction, number_above
from tf_lottery.retrain import WarmUp

# The learning rates of arXiv:1803.03635 (figure 2, Conv-6 and LeNet) and arXiv:1512.03385.
LEARNING_RATES = {"adam": 1.2e-3, "sgd": 0.1}
SCHEDULES = ("constant", "cosine", "step")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The hyperparameters of an optimizer, a base of the settings of experiments.

    Args:
        optimizer: `"adam"`, or `"sgd"` with Nesterov momentum of 0.9. Defaults to `"adam"`.
        learning_rate: Float > 0, the initial one. Defaults to `None`: 0.0012 for Adam, 0.1 for
            SGD.
        schedule: How the learning rate falls: not at all (`"constant"`); to 0 along a
            `"cosine"`; or to a tenth after every share of the training in `drops` (`"step"`). A
            level or a round of a search is a training. Defaults to `"constant"`.
        drops: Tuple of rising floats in (0, 1). Defaults to `(0.5, 0.75)`.
        warm_up: Float in [0, 1), the share of the training in which the learning rate rises
            linearly to what the schedule says. Defaults to `0.0`.
        weight_decay: Float >= 0. Every step subtracts this share of a weight, times the learning
            rate; with SGD this decays weights as an L2 penalty of a tenth of it does, since
            momentum does not add to it. Defaults to `0.0`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> settings = OptimizerSettings(optimizer="sgd", schedule="step", weight_decay=5e-3)
    >>> [round(float(settings.schedule_of(100)(step)), 4) for step in (0, 60, 80)]
    [0.1, 0.01, 0.001]
    """

    optimizer: str = "adam"
    learning_rate: float | None = None
    schedule: str = "constant"
    drops: tuple[float, ...] = (0.5, 0.75)
    warm_up: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self):
        choice("optimizer", self.optimizer, tuple(LEARNING_RATES))
        choice("schedule", self.schedule, SCHEDULES)
        object.__setattr__(self, "drops", tuple(self.drops))
        if sorted({0.0, *self.drops, 1.0}) != [0.0, *self.drops, 1.0]:
            raise ValueError(
                "Argument `drops` must be rising shares of the training, above 0 and below 1. "
                f"Received: drops={self.drops}"
            )
        fraction("warm_up", self.warm_up)
        number_above("weight_decay", self.weight_decay, 0, inclusive=True)
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", LEARNING_RATES[self.optimizer])
        number_above("learning_rate", self.learning_rate, 0)

    def schedule_of(self, steps, learning_rate=None):
        """Returns the learning rate, or its schedule.

        Args:
            steps: Integer > 0, the length of the training.
            learning_rate: Float, the initial one. Defaults to `None`: that of the settings.
        """
        rate = self.learning_rate if learning_rate is None else learning_rate
        found = self._falling(rate, steps)
        return WarmUp(found, math.ceil(self.warm_up * steps)) if self.warm_up else found

    def _falling(self, rate, steps):
        schedules = keras.optimizers.schedules
        if self.schedule == "cosine":
            return schedules.CosineDecay(rate, steps)
        if self.schedule == "step":
            bounds = [int(share * steps) for share in self.drops]
            rates = [rate * 10.0**-i for i in range(len(bounds) + 1)]
            return schedules.PiecewiseConstantDecay(bounds, rates)
        return rate

    def make_optimizer(self, steps):
        """Returns a new Keras optimizer.

        Args:
            steps: Integer > 0, the length of the training.
        """
        rate, decay = self.schedule_of(steps), self.weight_decay or None
        if self.optimizer == "adam":
            return keras.optimizers.Adam(rate, weight_decay=decay)
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay)

    def to_dict(self):
        """Returns the settings as a dict for JSON, which has lists and no tuples.

        Results are then the same when they are read again.
        """
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }
