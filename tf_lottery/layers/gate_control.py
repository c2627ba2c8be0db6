"""What changes in the gates at every training step besides their values."""

import math

import keras
import numpy as np
from keras import ops

from tf_lottery.layers.variables import constant

# The controller of the penalty. An error is the logarithm of density over planned density. Errors
# beyond the tolerance add up to the logarithm of the strength, in a whole round `GAIN` times
# their mean, but in a step so little that the gates can follow.
TOLERANCE = 0.03
GAIN, HIGHEST_GAIN = 110.0, 0.1
# The plan reaches its density at this share of a round and then holds it, so that the penalty
# can still settle while the gates are soft enough to follow.
PLANNED_SHARE = 0.7
WEAKEST, STRONGEST = 1e-10, 1e-2
_LEAST_DENSITY = 1e-6
# A temperature and a threshold by which a sigmoid is exactly 1 above 0, and 0 at and below it.
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
    """Holds the temperature and the penalty of gates, and how they develop in a round.

    Both change inside the training step, so that no step is missed, however many of them run at
    once, and nothing is compiled again. The temperature rises exponentially from 1,
    `final_temperature ** (position / last_position)`.

    With a density to steer to, the penalty is `strength * error / tolerance`, cut off at
    `strength`: above the planned density gates are pushed down, below it up. Density is here the
    mean of `min(gate, 1) ** 4`, to which a gate in between adds little. The error is the logarithm
    of density over planned density, which falls exponentially from that of the first step to
    the last one; the strength grows while the error is beyond the tolerance and shrinks while
    it is within.

    Args:
        penalty: Float, the factor of the sum of all gates. Defaults to `0.0`.
        steers: Whether the penalty is steered. Defaults to `False`.
        dtype: String, the type of the variables. Defaults to `"float32"`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        steers: Whether the penalty is steered. Training functions that were compiled before it
            changes have to be made again.

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
        """Creates the variables, scalars all."""
        for name, value in self._initial_state().items():
            variable = self.add_weight(
                name=name,
                shape=(),
                initializer=constant(value),
                trainable=False,
                autocast=False,
                # All replicas compute the same.
                aggregation="only_first_replica",
            )
            setattr(self, name, variable)
        self.built = True

    def anneal(self, last_position, final_temperature, stride=1.0):
        """Starts a round: the next training step has temperature 1.

        Args:
            last_position: Integer > 0, the position of the final temperature.
            final_temperature: Float > 0.
            stride: Float, by how much a training step moves the position. Defaults to `1.0`;
                with `0.0` only `move_to` does.
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

    def steer(self, num_steps, last_density):
        """Lets the penalty lead the density to a value during a round.

        Args:
            num_steps: Integer, the training steps of the round.
            last_density: Float > 0, the density at the end.
        """
        self.steers = True
        self.first_density.assign(0.0)
        self.last_density.assign(last_density)
        self.gain.assign(min(GAIN / num_steps, HIGHEST_GAIN))

    def restart(self):
        """Goes back to temperature 1 and the initial penalty, and steers no longer."""
        self.steers = False
        for name, value in self._initial_state().items():
            getattr(self, name).assign(value)

    def settle(self):
        """Makes gates hard for good, without a penalty."""
        self.restart()
        self.penalty.assign(0.0)
        self.harden(True)

    @property
    def is_settled(self):
        """Whether gates are hard and no round will change it."""
        is_hard = ops.convert_to_numpy(self.threshold) > 0
        return bool(is_hard and ops.convert_to_numpy(self.last_position) == 0)

    def harden(self, hard):
        """Makes gates hard for an evaluation, or soft again, at the temperature of the round.

        Args:
            hard: Boolean.
        """
        soft = self._annealed(-self.stride.value)
        self.temperature.assign(HARD_TEMPERATURE if hard else soft)
        self.threshold.assign(HARD_THRESHOLD if hard else 0.0)

    def current(self):
        """Returns the temperature, the threshold and the slope as they are, scalar tensors."""
        temperature, threshold = self.temperature.value, self.threshold.value
        return temperature, threshold, ops.where(threshold > 0.0, 0.0, temperature)

    def advance(self):
        """Moves on by one training step, inside of it.

        Returns:
            What `current` returns, for this step.
        """
        annealed, now = self._annealed(), self.temperature.value
        in_round = self.last_position.value > 0.0
        self.temperature.assign(ops.where(in_round, annealed, now))
        # An evaluation that was interrupted leaves gates hard.
        self.threshold.assign(ops.where(in_round, 0.0, self.threshold.value))
        self.position.assign(self.position.value + self.stride.value)
        return self.current()

    def penalize(self, density):
        """Returns the penalty of this step, a scalar tensor, inside of it.

        Args:
            density: Scalar tensor, the density as the gates are. Without effect unless the
                control steers.
        """
        if self.steers:
            is_on = self.last_density.value > 0.0
            self.penalty.assign(ops.where(is_on, self._steered(density), self.penalty.value))
        return self.penalty.value

    def _initial_state(self):
        return {**_STATE, "penalty": self.initial_penalty}

    def _progress(self, ahead=0.0):
        """Returns how much of the round is over, from 0 to 1."""
        last = ops.maximum(self.last_position.value, 1.0)
        return ops.clip((self.position.value + ahead) / last, 0.0, 1.0)

    def _annealed(self, ahead=0.0):
        progress, final = self._progress(ahead), self.final_temperature.value
        return ops.where(progress >= 1.0, final, ops.exp(progress * ops.log(final)))

    def _steered(self, density):
        density = ops.maximum(density, _LEAST_DENSITY)
        first = self.first_density.value
        first = ops.where(first > 0.0, first, density)
        # A function that was compiled to steer still runs this when a search no longer does.
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
