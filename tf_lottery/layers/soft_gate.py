"""The settings of the gates of Continuous Sparsification."""

import copy
import dataclasses
import math
from typing import Any

import keras

from tf_lottery.checks import number_above
from tf_lottery.sparsity.serializable import Serializable

# Below `-_SATURATED`, a gate is closed at temperature 1, and its scale is practically infinite.
_SATURATED = 50


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class SoftGate(Serializable):
    """Settings of gates: every weight gets a trainable factor `scale * sigmoid(temperature * s)`.

    "Winning the Lottery with Continuous Sparsification" (Savarese et al., arXiv:1912.04427). While
    the temperature rises, the gates approach 0 or 1, and a weight is kept where `s > 0`.

    Args:
        initial_value: Float, the initial `s` of all gates. A higher value gives a denser network.
            Defaults to `0.0`.
        penalty: Float >= 0, factor of the sum of all gates in the loss. Defaults to `1e-8`, the
            paper's, with which the density depends on the data. `ContinuousSparsification` with
            a `target_density` replaces it.
        normalize: Whether the penalty is divided by the number of gates, so that the same value
            suits networks of any size. Defaults to `False`, as in the paper.
        learning_rate_multiplier: Float > 0, the factor of every update of `s`, with any
            optimizer. Defaults to `1.0`.
        rescale: Whether `scale` is `1 / sigmoid(initial_value)`, as in the official code.
            Training then starts with gates of exactly 1. Otherwise `scale` is 1, and the gates
            reduce the signal of an untrained layer. Gates of kept weights end at `scale`, so a
            high learning rate without normalization can become unstable. Defaults to `True`.
        stochastic: Whether a training step draws gates of 0 or 1 with probability
            `sigmoid(temperature * s)` and uses the gradient of the probability. This is the
            paper's baseline, Iterative Stochastic Sparsification. Defaults to `False`.
        optimizer: A Keras optimizer, or its name, that trains the gates alone: `compile` puts it
            and the one of the weights into a `keras.optimizers.MultiOptimizer`. The official code
            trains gates with `SGD(0.1, momentum=0.9, nesterov=True)`, without weight decay and
            with the learning-rate schedule of the weights, which restarts in every round. SGD
            moves a gate as far as the loss depends on it; Adam moves every gate by about its
            learning rate in every step. Only its configuration is used, so it can serve several
            models. Give it a schedule of its own, since `keras.callbacks.LearningRateScheduler`
            cannot set two rates. Defaults to `None`: the optimizer of the weights, so that a model
            is compiled like any other.

    Raises:
        ValueError: If an argument is outside its range, or this version of Keras has no
            `MultiOptimizer`.

    Example:

    >>> sparse = tfl.sparsify(model, gate=tfl.SoftGate(initial_value=-0.05))
    >>> SoftGate(initial_value=0.0).scale
    2.0
    >>> SoftGate(optimizer=keras.optimizers.SGD(0.1, momentum=0.9)).make_optimizer().momentum
    0.9
    """

    initial_value: float = 0.0
    penalty: float = 1e-8
    normalize: bool = False
    learning_rate_multiplier: float = 1.0
    rescale: bool = True
    stochastic: bool = False
    optimizer: Any = None

    def __post_init__(self):
        numbers = {
            "initial_value": number_above("initial_value", self.initial_value, -_SATURATED),
            "penalty": number_above("penalty", self.penalty, 0, inclusive=True),
            "learning_rate_multiplier": number_above(
                "learning_rate_multiplier", self.learning_rate_multiplier, 0
            ),
        }
        # Plain floats, since the configuration is written as JSON.
        for name, value in numbers.items():
            object.__setattr__(self, name, value)
        if self.optimizer is not None:
            object.__setattr__(self, "optimizer", _config_of(self.optimizer))

    def make_optimizer(self) -> keras.optimizers.Optimizer | None:
        """Returns a new optimizer for the gates, or `None` if they have none of their own."""
        if self.optimizer is None:
            return None
        # A copy, since Keras replaces the configuration of a schedule by the schedule.
        return keras.optimizers.deserialize(copy.deepcopy(self.optimizer))

    @property
    def scale(self) -> float:
        """The factor of all gates."""
        return 1.0 + math.exp(-self.initial_value) if self.rescale else 1.0


def _config_of(optimizer):
    """Returns the configuration of an optimizer, a dict that fits into JSON."""
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        raise ValueError(
            "Argument `optimizer` needs `keras.optimizers.MultiOptimizer`, which this Keras does "
            f"not have; upgrade it. Received: Keras {keras.__version__}"
        )
    try:
        found = keras.optimizers.get(optimizer)
    except (ValueError, TypeError):
        found = None
    if found is None or hasattr(found, "optimizers") or hasattr(found, "inner_optimizer"):
        raise ValueError(
            "Argument `optimizer` must be a Keras optimizer without others inside, or its name. "
            f"Received: optimizer={optimizer!r}"
        )
    return keras.optimizers.serialize(found)


def get(gate):
    """Returns `gate`, deserialized if needed.

    Args:
        gate: A `SoftGate` or its serialized form.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(gate, dict):
        gate = keras.saving.deserialize_keras_object(gate)
    if not isinstance(gate, SoftGate):
        raise ValueError(f"Argument `gate` must be a `tfl.SoftGate`. Received: {gate!r}")
    return gate
