"""The optimizer of an experiment: its kind, learning rate, schedule and weight decay."""

import dataclasses

import keras

from tf_lottery.checks import choice, number_above

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
            `"cosine"`; or to a tenth after a half and to a hundredth after three quarters of the
            training (`"step"`). A level or a round of a search is a training. Defaults to
            `"constant"`.
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
    weight_decay: float = 0.0

    def __post_init__(self):
        choice("optimizer", self.optimizer, tuple(LEARNING_RATES))
        choice("schedule", self.schedule, SCHEDULES)
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
        schedules = keras.optimizers.schedules
        if self.schedule == "cosine":
            return schedules.CosineDecay(rate, steps)
        if self.schedule == "step":
            bounds = [steps // 2, 3 * steps // 4]
            return schedules.PiecewiseConstantDecay(bounds, [rate, 0.1 * rate, 0.01 * rate])
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
