"""How the gates of Continuous Sparsification are made."""

import dataclasses
import math

import keras

from tf_lottery.checks import number_above
from tf_lottery.sparsity.serializable import Serializable

# Beyond, a gate is closed at temperature 1 already, and its scale infinite.
_SATURATED = 50


@keras.saving.register_keras_serializable("tf_lottery")
@dataclasses.dataclass(frozen=True)
class SoftGate(Serializable):
    """A trainable factor `scale * sigmoid(temperature * s)` of every weight.

    "Winning the Lottery with Continuous Sparsification" (Savarese et al., arXiv:1912.04427). While
    the temperature rises, the gates approach 0 or 1, and a weight is kept where `s > 0`.

    Args:
        initial_value: Float, the `s` that all gates start from. The higher, the denser the
            network ends. Defaults to `0.0`.
        penalty: Float >= 0, factor of the sum of all gates in the loss. Defaults to `1e-8`, the
            paper's, which leaves the density to the data; `ContinuousSparsification` replaces
            it if it is given a `target_density`.
        normalize: Whether the penalty is divided by the number of gates, so that one value
            suits networks of any size. Defaults to `False`, as in the paper.
        learning_rate_multiplier: Float > 0, how much faster than weights the values `s` move,
            whatever the optimizer. Defaults to `1.0`.
        rescale: Whether `scale` is `1 / sigmoid(initial_value)`, as in the official code, so
            that training starts with gates of exactly 1; otherwise it is 1, and an untrained
            layer passes on a part of its signal only. Gates of kept weights end at `scale`,
            so that a high learning rate without normalization can become unstable. Defaults to
            `True`.
        stochastic: Whether a training step draws gates of 0 or 1 with probability
            `sigmoid(temperature * s)`, their gradient being that of the probability: the
            paper's baseline, Iterative Stochastic Sparsification. Defaults to `False`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> sparse = tfl.sparsify(model, gate=tfl.SoftGate(initial_value=-0.05))
    >>> SoftGate(initial_value=0.0).scale
    2.0
    """

    initial_value: float = 0.0
    penalty: float = 1e-8
    normalize: bool = False
    learning_rate_multiplier: float = 1.0
    rescale: bool = True
    stochastic: bool = False

    def __post_init__(self):
        numbers = {
            "initial_value": number_above("initial_value", self.initial_value, -_SATURATED),
            "penalty": number_above("penalty", self.penalty, 0, inclusive=True),
            "learning_rate_multiplier": number_above(
                "learning_rate_multiplier", self.learning_rate_multiplier, 0
            ),
        }
        # Plain floats, whatever number they were given as, since they are written as JSON.
        for name, value in numbers.items():
            object.__setattr__(self, name, value)

    @property
    def scale(self):
        """The factor of all gates."""
        return 1.0 + math.exp(-self.initial_value) if self.rescale else 1.0


def get(gate):
    """Returns the `SoftGate` that `gate` is or describes.

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
