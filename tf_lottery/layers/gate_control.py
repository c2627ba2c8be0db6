"""What changes in the gates at every training step besides their values."""

import keras
import numpy as np
from keras import ops

# The controller of the penalty. An error is the logarithm of density over planned density. Errors
# beyond the tolerance add up to the logarithm of the strength, in a whole round `GAIN` times
# their mean.
TOLERANCE = 0.03
GAIN = 110.0
# The plan reaches its density at this share of a round and then holds it, so that the penalty
# can still settle while the gates are soft enough to follow.
PLANNED_SHARE = 0.7
WEAKEST, STRONGEST = 1e-10, 1e-2
_LEAST_DENSITY = 1e-6

_STATE = {
    "temperature": 1.0,
    "position": 0.0,
    "last_position": 0.0,
    "stride": 0.0,
    "final_temperature": 1.0,
    "penalty": 0.0,
    "strength": 0.0,
    "gain": 0.0,
    "first_density": 1.0,
    "last_density": 0.0,
}


@keras.saving.register_keras_serializable("tf_lottery")
class GateControl(keras.layers.Layer):
    """Holds the temperature and the penalty of gates, and how they develop in a round.

    Both change inside the training step, so that no step is missed, however many of them run at
    once, and nothing is compiled again. The temperature rises exponentially from 1,
    `final_temperature ** (position / last_position)`.

    With a density to steer to, the penalty is `strength * error / tolerance`, cut off at
    `strength`: above the planned density gates are pushed down, below it up. The error is the
    logarithm of density over planned density, which falls exponentially from the first to the
    last density; the strength grows while the error is beyond the tolerance and shrinks
    while it is within.

    Args:
        penalty: Float, the factor of the sum of all gates. Defaults to `0.0`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Example:

    >>> control = GateControl()
    >>> control.anneal(last_position=2, final_temperature=100.0)
    >>> [float(control.advance()[0]) for _ in range(4)]
    [1.0, 10.0, 100.0, 100.0]
    """

    def __init__(self, penalty=0.0, **kwargs):
        super().__init__(**{"name": "control", **kwargs, "dtype": "float32"})
        self.initial_penalty = penalty
        self.build()

    def build(self):
        """Creates the variables, scalars all."""
        values = {**_STATE, "penalty": self.initial_penalty}
        for name, value in values.items():
            variable = self.add_weight(
                name=name,
                shape=(),
                initializer=keras.initializers.Constant(value),
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

    def steer(self, num_steps, first_density, last_density):
        """Lets the penalty lead the density from one value to another during a round.

        Args:
            num_steps: Integer, the training steps of the round.
            first_density: Float > 0, the density at the start.
            last_density: Float > 0, the density at the end.
        """
        self.first_density.assign(first_density)
        self.last_density.assign(last_density)
        self.gain.assign(GAIN / num_steps)
        start = max(float(ops.convert_to_numpy(self.penalty)), 1e-7)
        self.strength.assign(np.log(start))

    def let_go(self):
        """Ends rounds and steering: temperature 1 and the initial penalty come back."""
        for name, value in {**_STATE, "penalty": self.initial_penalty}.items():
            getattr(self, name).assign(value)

    def advance(self, measure_density=None):
        """Moves on by one training step, inside of it.

        Args:
            measure_density: Function of the temperature that returns the density as the gates
                are, a scalar tensor. Defaults to `None`: nothing is steered.

        Returns:
            The temperature and the penalty of this step, scalar tensors.
        """
        position, last = self.position.value, self.last_position.value
        progress = ops.minimum(position / ops.maximum(last, 1.0), 1.0)
        final = self.final_temperature.value
        annealed = ops.where(progress >= 1.0, final, ops.exp(progress * ops.log(final)))
        temperature = ops.where(last > 0.0, annealed, self.temperature.value)
        self.temperature.assign(temperature)
        penalty = self.penalty.value
        if measure_density is not None:
            penalty = self._steered(progress, penalty, lambda: measure_density(temperature))
            self.penalty.assign(penalty)
        self.position.assign(position + self.stride.value)
        return temperature, penalty

    def _steered(self, progress, penalty, measure_density):
        first, last = self.first_density.value, self.last_density.value
        strength = self.strength.value
        steers = last > 0.0
        density = ops.cond(steers, measure_density, lambda: ops.ones((), "float32"))
        planned = ops.log(first) + ops.minimum(progress / PLANNED_SHARE, 1.0) * (
            ops.log(ops.maximum(last, _LEAST_DENSITY)) - ops.log(first)
        )
        error = ops.log(ops.maximum(density, _LEAST_DENSITY)) - planned
        stronger = ops.clip(
            strength + self.gain.value * (ops.abs(error) - TOLERANCE),
            np.log(WEAKEST),
            np.log(STRONGEST),
        )
        steered = ops.exp(stronger) * ops.clip(error / TOLERANCE, -1.0, 1.0)
        self.strength.assign(ops.where(steers, stronger, strength))
        return ops.where(steers, steered, penalty)

    def get_config(self):
        """Returns the configuration."""
        return {**super().get_config(), "penalty": self.initial_penalty}
