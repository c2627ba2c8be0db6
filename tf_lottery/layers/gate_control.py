"""The temperature and the penalty of gates, which change at every training step."""

import math

import keras
import numpy as np
from keras import ops

from tf_lottery.layers.variables import constant

# The controller of the penalty. The error is `log(density / planned density)`. Every step adds
# `gain * (|error| - TOLERANCE)` to the logarithm of the strength, where `gain` is `GAIN` divided by
# the steps of a round, but at most `HIGHEST_GAIN`, so that the gates can follow.
TOLERANCE = 0.03
GAIN, HIGHEST_GAIN = 110.0, 0.1
# The planned density reaches its final value at this share of a round and then stays constant.
# The penalty can then settle while the gates are still soft enough to follow.
PLANNED_SHARE = 0.7
WEAKEST, STRONGEST = 1e-10, 1e-2
_LEAST_DENSITY = 1e-6
# With these, `sigmoid(temperature * s - threshold)` is exactly 1 for `s > 0` and exactly 0 else.
HARD_TEMPERATURE, HARD_THRESHOLD = 1e30, 1e3

_STATE = {
    "temperature": 1.0,
    "threshold": 0.0,
    "position": 0.0,
    "last_position": 0.0,
    "stride": 0.0,
    "final_temperature": 1.0,
    "penalty": 0.0,
    "strength": math.log(1e-7),
    "gain": 0.0,
    "first_density": 0.0,
    "last_density": 0.0,
}


@keras.saving.register_keras_serializable("tf_lottery")
class GateControl(keras.layers.Layer):
    """Holds the temperature and the penalty of gates, and updates them during a round.

    Both change inside the training step. This works with any `steps_per_execution` and needs no
    recompilation. The temperature rises exponentially from 1: it is
    `final_temperature ** (position / last_position)`.

    With a target density, the penalty is `strength * error / tolerance`, clipped to `-strength`
    and `strength`. It pushes gates down above the planned density, and up below it. The density
    here is the mean of `min(gate, 1) ** 4`, so partly open gates count little. The error is
    `log(density / planned density)`. The planned density falls exponentially from the density
    of the first step to the target. The strength grows while the error exceeds the tolerance,
    and otherwise shrinks.

    Args:
        penalty: Float, the factor of the sum of all gates. Defaults to `0.0`.
        steers: Whether the penalty controls the density. Defaults to `False`.
        dtype: String, the type of the variables. Defaults to `"float32"`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        steers: Whether the penalty controls the density. After a change, the training function
            must be compiled again.

    Example:

    >>> control = GateControl()
    >>> control.anneal(last_position=2, final_temperature=100.0)
    >>> [float(control.advance()[0]) for _ in range(4)]
    [1.0, 10.0, 100.0, 100.0]
    """

    def __init__(self, penalty=0.0, steers=False, dtype="float32", **kwargs):
        super().__init__(**{"name": "control", **kwargs, "dtype": dtype})
        self.initial_penalty = penalty
        self.steers = steers
        self.build()

    def build(self):
        """Creates the variables, which are all scalars."""
        for name, value in self._initial_state().items():
            variable = self.add_weight(
                name=name,
                shape=(),
                initializer=constant(value),
                trainable=False,
                autocast=False,
                # All replicas compute the same value.
                aggregation="only_first_replica",
            )
            setattr(self, name, variable)
        self.built = True

    def anneal(self, last_position, final_temperature, stride=1.0):
        """Starts a round: the next training step has temperature 1.

        Args:
            last_position: Integer > 0, the position with the final temperature.
            final_temperature: Float > 0.
            stride: Float, added to the position at every training step. With `0.0` only
                `move_to` changes the position. Defaults to `1.0`.
        """
        self.last_position.assign(float(last_position))
        self.final_temperature.assign(float(final_temperature))
        self.stride.assign(float(stride))
        self.temperature.assign(1.0)
        self.position.assign(0.0)

    def move_to(self, position):
        """Sets the position of the next training step.

        Args:
            position: Integer.
        """
        self.position.assign(float(position))

    def share_steps(self, steps):
        """Lets all calls in a training step count as one, after the first steps of a round.

        Without it, the gates of a model that every step calls for several inputs would close
        several times as fast, and with as many penalties.

        Args:
            steps: Integer > 0, the training steps since `anneal`, with a stride of 1.
        """
        calls = round(float(ops.convert_to_numpy(self.position)) / steps)
        if calls > 1:
            self.position.assign(self.position.value / calls)
            self.stride.assign(1.0 / calls)
            self.gain.assign(self.gain.value / calls)
            if not self.steers:
                self.penalty.assign(self.initial_penalty / calls)

    def steer(self, num_steps, last_density):
        """Makes the penalty lead the density to a target during a round.

        Args:
            num_steps: Integer, the training steps of the round.
            last_density: Float > 0, the density at the end.
        """
        self.steers = True
        self.first_density.assign(0.0)
        self.last_density.assign(last_density)
        self.gain.assign(min(GAIN / num_steps, HIGHEST_GAIN))

    def restart(self):
        """Resets temperature and penalty to their initial values, without a target density."""
        self.steers = False
        for name, value in self._initial_state().items():
            getattr(self, name).assign(value)

    def settle(self):
        """Makes gates hard permanently, without a penalty."""
        self.restart()
        self.penalty.assign(0.0)
        self.harden(True)

    @property
    def is_settled(self):
        """Whether gates are hard permanently, not only for an evaluation."""
        is_hard = ops.convert_to_numpy(self.threshold) > 0
        return bool(is_hard and ops.convert_to_numpy(self.last_position) == 0)

    def harden(self, hard):
        """Makes gates hard for an evaluation, or soft again at the current temperature.

        Args:
            hard: Boolean.
        """
        soft = self._annealed(-self.stride.value)
        self.temperature.assign(HARD_TEMPERATURE if hard else soft)
        self.threshold.assign(HARD_THRESHOLD if hard else 0.0)

    def current(self):
        """Returns the current temperature, threshold and slope, as scalar tensors."""
        temperature, threshold = self.temperature.value, self.threshold.value
        return temperature, threshold, ops.where(threshold > 0.0, 0.0, temperature)

    def advance(self):
        """Advances by one training step. Called inside the step.

        Returns:
            What `current` returns, for this step.
        """
        annealed, now = self._annealed(), self.temperature.value
        in_round = self.last_position.value > 0.0
        self.temperature.assign(ops.where(in_round, annealed, now))
        # The threshold is reset too, since an interrupted evaluation leaves gates hard.
        self.threshold.assign(ops.where(in_round, 0.0, self.threshold.value))
        self.position.assign(self.position.value + self.stride.value)
        return self.current()

    def penalize(self, density):
        """Returns the penalty of this step, a scalar tensor. Called inside the step.

        Args:
            density: Scalar tensor, the current density. Used only if `steers` is true.
        """
        if self.steers:
            is_on = self.last_density.value > 0.0
            self.penalty.assign(ops.where(is_on, self._steered(density), self.penalty.value))
        # A copy: the next call in the same step changes the variable, on PyTorch in place, and the
        # gradient of this one needs its value.
        return ops.copy(self.penalty.value)

    def _initial_state(self):
        return {**_STATE, "penalty": self.initial_penalty}

    def _progress(self, ahead=0.0):
        """Returns the finished share of the round, from 0 to 1, at `position + ahead`."""
        last = ops.maximum(self.last_position.value, 1.0)
        return ops.clip((self.position.value + ahead) / last, 0.0, 1.0)

    def _annealed(self, ahead=0.0):
        progress, final = self._progress(ahead), self.final_temperature.value
        return ops.where(progress >= 1.0, final, ops.exp(progress * ops.log(final)))

    def _steered(self, density):
        density = ops.maximum(density, _LEAST_DENSITY)
        first = self.first_density.value
        first = ops.where(first > 0.0, first, density)
        # A training function that was compiled with a target still runs this without one.
        self.first_density.assign(ops.where(self.last_density.value > 0.0, first, 0.0))
        first = ops.log(first)
        last = ops.log(ops.maximum(self.last_density.value, _LEAST_DENSITY))
        done = ops.minimum(self._progress(-self.stride.value) / PLANNED_SHARE, 1.0)
        error = ops.log(density) - (first + done * (last - first))
        strength = self.strength.value + self.gain.value * (ops.abs(error) - TOLERANCE)
        strength = ops.clip(strength, np.log(WEAKEST), np.log(STRONGEST))
        self.strength.assign(strength)
        return ops.exp(strength) * ops.clip(error / TOLERANCE, -1.0, 1.0)

    def get_config(self):
        """Returns the configuration."""
        return {**super().get_config(), "penalty": self.initial_penalty, "steers": self.steers}
