"""The selection by soft gates, which training opens and closes."""

import re
from typing import Any

import keras
import numpy as np
from keras import ops

from tf_lottery import hosts
from tf_lottery._typing import Tensor
from tf_lottery.layers import soft_gate
from tf_lottery.layers.gate_control import GateControl
from tf_lottery.layers.part import Selection
from tf_lottery.layers.products import gated_product
from tf_lottery.layers.variables import add_like, constant, precise_dtype
from tf_lottery.sparsity import gates as gate_ops

# The lowest `s` of a gate that is opened because its mask was set.
_OPEN = 1e-3


@keras.saving.register_keras_serializable("tf_lottery")
class Gates(Selection):
    """Multiplies every kernel by `scale * sigmoid(temperature * s)`.

    The optimizer of the weights also trains every `s`, unless `gate` has one of its own. Each
    training step adds the sum of all gates times a penalty to the loss. A weight counts as kept
    where `s > 0`; there are no other masks. When the gates are settled, they become exactly
    `s > 0`, and the scale is multiplied into the kernels.

    Usually `tfl.sparsify(model, gate=...)` wraps a whole model, and
    `tfl.callbacks.ContinuousSparsification` trains it. To train a layer in your own loop, start
    each round with `control.anneal`, end the last one with `apply_masks` of the wrapper, and
    exclude `gates` from weight decay. Call the layer only once per training step, since every
    call advances the temperature and adds the loss.

    "Winning the Lottery with Continuous Sparsification" (arXiv:1912.04427, equation 4).

    Args:
        gate: A `SoftGate`. Defaults to `None`: `SoftGate()`.
        steers: Whether the penalty controls the density; see `GateControl`. Defaults to `False`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        gates: List of trainable variables, `s` divided by the learning rate multiplier. `values`
            holds `s` itself. They are float64 for float64 kernels, otherwise float32.
        control: `GateControl`, the temperature and the penalty.
        scale: Float variable. It is 1 when the gates are settled.

    Raises:
        ValueError: If `gate` is not a `SoftGate`.

    Example:

    >>> dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    >>> gates = tfl.layers.Gates(tfl.SoftGate(initial_value=0.0, rescale=False))
    >>> gated = tfl.layers.Masked(dense, selection=gates)
    >>> ops.convert_to_numpy(gated(np.array([[3.0, 5.0]], "float32")))
    array([[4.]], dtype=float32)
    """

    kind = "gates"
    kernels_can_be_assigned = False

    def __init__(
        self, gate: soft_gate.SoftGate | dict | None = None, steers: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**{"name": "gates", **kwargs})
        self.gate = soft_gate.SoftGate() if gate is None else soft_gate.get(gate)
        self.gates = []
        self.control: GateControl = None
        self.scale: keras.Variable = None
        self._seed_generator: keras.random.SeedGenerator = None
        self._steers = steers

    def create_variables(self, kernels: list[keras.Variable]) -> None:
        """Creates the gates, their scale and their control."""
        gate = self.gate
        start = constant(gate.initial_value / gate.learning_rate_multiplier)
        for i, kernel in enumerate(kernels):
            self.gates.append(add_like(self, kernel, f"gate_{i}", start))
        dtype = precise_dtype(self.gates)
        self.scale = self.add_weight(
            name="scale",
            shape=(),
            initializer=constant(gate.scale),
            dtype=dtype,
            trainable=False,
            autocast=False,
        )
        penalty = gate.penalty / (self.num_gates if gate.normalize else 1)
        self.control = GateControl(penalty, self._steers, dtype=dtype)
        if gate.stochastic:
            self._seed_generator = keras.random.SeedGenerator(0)

    @property
    def num_gates(self) -> int:
        """Integer, the number of gates."""
        return sum(int(np.prod(variable.shape)) for variable in self.gates)

    @property
    def loss_of_gates(self) -> float:
        """Float, what the gates currently add to the loss; see `SoftGate.penalty`."""
        temperature = ops.convert_to_numpy(self.control.temperature)
        total = sum(gate_ops.sigmoid(array, temperature).sum() for array in self.values)
        factor = ops.convert_to_numpy(self.control.penalty) * ops.convert_to_numpy(self.scale)
        return float(factor * total)

    @property
    def undecayed(self) -> list[keras.Variable]:
        """List of the gates."""
        return list(self.gates)

    def own_optimizers(self) -> dict[str, keras.optimizers.Optimizer]:
        """Returns the optimizer of the gates, if they have one of their own."""
        optimizer = self.gate.make_optimizer()
        return {} if optimizer is None else {rf"(.*/)?{re.escape(self.name)}/gate_\d+": optimizer}

    @property
    def is_soft(self) -> bool:
        """Whether gates are still sigmoids, not settled."""
        return not self.control.is_settled

    def replace(self, values: list[Tensor], training: bool | None) -> list[Tensor]:
        """Returns the kernels times their gates; adds the loss of the gates in a training step."""
        state = self.control.advance() if training else self.control.current()
        scale = self.scale.value
        gated, total, open_gates = [], 0.0, 0.0
        for i, value in enumerate(values):
            s = self._value(i)
            scaling, temperature, threshold, slope = (ops.cast(n, s.dtype) for n in (scale, *state))
            noise = self._noise(s) if training else None
            product, sum_of_gates, gate = gated_product(
                value, s, scaling, temperature, threshold, slope, noise
            )
            gated.append(product)
            if training:
                total = total + ops.cast(sum_of_gates, scale.dtype)
                if self.control.steers:
                    open_gates = open_gates + self._count_open(gate)
        if training:
            self.add_loss(self.control.penalize(open_gates / self.num_gates) * total)
        return gated

    def _count_open(self, gate):
        """Returns the number of open gates. Partly open gates count little."""
        part = ops.square(ops.minimum(gate, 1.0))
        return ops.cast(ops.sum(ops.square(part)), self.scale.dtype)

    def _noise(self, s):
        """Returns random numbers from 0 to 1 if the gates are stochastic, otherwise `None`."""
        if self._seed_generator is None:
            return None
        return keras.random.uniform(s.shape, dtype=s.dtype, seed=self._seed_generator)

    def _value(self, index):
        """Returns the tensor of the values `s` of a kernel."""
        values = ops.convert_to_tensor(self.gates[index].value)
        multiplier = self.gate.learning_rate_multiplier
        if multiplier == 1.0:
            return values
        # The variable gets the gradient of `s` unchanged, and every update counts `multiplier`
        # times.
        return values + ops.stop_gradient((multiplier - 1.0) * values)

    @property
    def values(self) -> list[np.ndarray]:
        """List of arrays, `s` for every kernel."""
        arrays = [hosts.to_numpy(variable) for variable in self.gates]
        return [array * array.dtype.type(self.gate.learning_rate_multiplier) for array in arrays]

    def set_values(self, values: list[np.ndarray]) -> None:
        """Sets the values `s`.

        Args:
            values: List of arrays, one for every kernel.
        """
        for variable, array in zip(self.gates, values, strict=True):
            array = np.asarray(array, variable.dtype)
            hosts.assign(variable, array / array.dtype.type(self.gate.learning_rate_multiplier))

    def kept(self, kernels: list[keras.Variable]) -> list[np.ndarray]:
        """Returns a list of boolean arrays, true where `s > 0`."""
        del kernels
        return [hosts.to_numpy(gate) > 0 for gate in self.gates]

    def keep(self, masks: list[np.ndarray]) -> None:
        """Opens the gates of kept weights and closes the others.

        Sets the scale to 1, which leaves the kept weights unscaled.
        """
        self.open_gates(masks)
        self.scale.assign(1.0)

    def settled(self, kernels: list[keras.Variable]) -> list[np.ndarray]:
        """Returns `kernel * scale * (s > 0)` for every kernel."""
        scale = ops.convert_to_numpy(self.scale)
        return [kernel * scale.astype(kernel.dtype) for kernel in super().settled(kernels)]

    def commit(self, kernels: list[keras.Variable]) -> None:
        """Settles the gates: from now on they are 1 or 0 and are not trained."""
        del kernels
        self.scale.assign(1.0)
        self.control.settle()

    def check_settle(self) -> None:
        """Raises a `ValueError` if all gates are closed."""
        if self.is_soft and not any(mask.any() for mask in self.kept([])):
            raise ValueError(
                "Argument `model` must have gates above 0, otherwise all weights would be pruned; "
                "train it with `tfl.callbacks.ContinuousSparsification`. Received: density 0"
            )

    def open_gates(self, masks: list[np.ndarray]) -> None:
        """Opens the gates of kept weights and closes the others. Correct gates do not change.

        Args:
            masks: List of boolean arrays, true where a weight is kept.
        """
        pairs = zip(masks, self.values, strict=True)
        self.set_values(
            [np.where(mask, np.maximum(s, _OPEN), np.minimum(s, 0.0)) for mask, s in pairs]
        )

    def reopen(self) -> None:
        """Makes the gates soft again, and sets those of kept weights to their initial value.

        Gates that were settled as closed stay closed permanently.
        """
        kept = [True] * len(self.gates) if self.is_soft else self.kept([])
        starts = [np.full(gate.shape, self.gate.initial_value) for gate in self.gates]
        pairs = zip(kept, starts, strict=True)
        self.set_values([np.where(mask, start, gate_ops.SHUT) for mask, start in pairs])
        self.scale.assign(self.gate.scale)
        self.control.restart()

    def get_config(self) -> dict:
        """Returns the configuration."""
        steers = self._steers if self.control is None else self.control.steers
        gate = keras.saving.serialize_keras_object(self.gate)
        return {**super().get_config(), "gate": gate, "steers": steers}
