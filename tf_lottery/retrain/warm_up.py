"""A learning rate that rises before it falls."""

from typing import Any

import keras
from keras import ops

from tf_lottery.checks import positive_integer


@keras.saving.register_keras_serializable("tf_lottery")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Raises the learning rate linearly to that of a schedule, as large batches need.

    Step `t` has the share `(t + 1) / steps` of the schedule's learning rate, until it is the whole
    (arXiv:1706.02677, section 2.2).

    Args:
        schedule: A Keras learning-rate schedule, or a float.
        steps: Integer > 0, how many steps the rise takes.

    Raises:
        ValueError: If `steps` is outside its range.

    Example:

    >>> schedule = WarmUp(0.4, steps=4)
    >>> [round(float(schedule(step)), 2) for step in (0, 1, 3, 9)]
    [0.1, 0.2, 0.4, 0.4]
    """

    def __init__(self, schedule: Any, steps: int) -> None:
        super().__init__()
        positive_integer("steps", steps)
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step, counted from 0."""
        rate = self.schedule(step) if callable(self.schedule) else self.schedule
        return rate * ops.minimum(1.0, (ops.cast(step, "float32") + 1.0) / self.steps)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, with which Keras makes an equal schedule."""
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": schedule, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmUp":
        """Returns the schedule with the arguments of `get_config`."""
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["steps"])
