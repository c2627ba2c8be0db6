"""The wrapper that computes with gated kernels."""

import keras
import numpy as np
from keras import ops

from tf_lottery.layers import soft_gate
from tf_lottery.layers.gate_control import GateControl
from tf_lottery.layers.masked import Masked
from tf_lottery.sparsity import gates as gate_ops

# The least value of an open gate whose mask was set by hand.
_OPEN = 1e-3


def scaled_sigmoid(values, scale, temperature, threshold, slope):
    """Returns `scale * sigmoid(temperature * values - threshold)`.

    Its gradient is computed with `slope` in place of the temperature, so that it is exactly zero
    where hard gates need an immense temperature.

    Args:
        values: Float tensor.
        scale: Scalar tensor.
        temperature: Scalar tensor.
        threshold: Scalar tensor.
        slope: Scalar tensor.
    """

    @ops.custom_gradient
    def gate(values):
        outputs = scale * ops.sigmoid(temperature * values - threshold)

        def backward(*args, upstream=None):
            upstream = ops.convert_to_tensor(args[0] if upstream is None else upstream)
            gradient = upstream * (outputs * (slope - outputs * (slope / scale)))
            # Also if the gradient from above is not finite: settled gates outlive divergence.
            return ops.where(slope > 0.0, gradient, 0.0)

        return outputs, backward

    return gate(values)


@keras.saving.register_keras_serializable("tf_lottery")
class Gated(Masked):
    """Computes with `kernel * scale * sigmoid(temperature * s)` in place of a layer's kernels.

    Every `s` is trained, by the same optimizer as the weights. The sum of all gates times a
    penalty is a loss of every training step. Once the gates are settled they are `s > 0`, and
    the scale is part of the kernels. Weights always count as kept where `s > 0`: there are no
    masks besides.

    A model is best wrapped as a whole, by `tfl.sparsify(model, gate=...)`, and trained with
    `tfl.callbacks.ContinuousSparsification`. Who trains a layer by hand starts a round with
    `control.anneal`, ends the last one with `apply_masks`, keeps `gates` out of weight decay, and
    calls the layer once in a training step, since every call moves the temperature and adds
    the loss.

    "Winning the Lottery with Continuous Sparsification" (arXiv:1912.04427, equation 4).

    Args:
        layer: A `keras.Layer` or model, wrapped and not copied.
        gate: A `SoftGate`. Defaults to `None`: one with its defaults.
        **kwargs: Arguments of `Masked`. The only pattern is `"unstructured"`.

    Attributes:
        gates: List of trainable float32 variables, the values `s`, divided by the learning rate
            multiplier; `values` has them as they are.
        control: `GateControl`, the temperature and the penalty.
        scale: Float variable, 1 once the gates are settled.

    Raises:
        ValueError: If `gate` is not a `SoftGate` or `pattern` is a structured one.

    Example:

    >>> dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    >>> gated = Gated(dense, tfl.SoftGate(initial_value=0.0, rescale=False))
    >>> ops.convert_to_numpy(gated(np.array([[3.0, 5.0]])))
    array([[4.]], dtype=float32)
    """

    def __init__(self, layer, gate=None, include=None, exclude=None, **kwargs):
        super().__init__(layer, include, exclude, **kwargs)
        self.gate = soft_gate.SoftGate() if gate is None else soft_gate.get(gate)
        if self.pattern.structured:
            raise ValueError(
                "Argument `pattern` must be 'unstructured' with gates, which decide weight by "
                f"weight. Received: pattern={str(self.pattern)!r}"
            )
        self.gates = []
        self.control = self._seed_generator = None
        self._steers = False

    def build_masks(self):
        """Creates the gates and the variables that belong to them."""
        gate = self.gate
        for i, kernel in enumerate(self.kernels):
            variable = self.add_weight(
                name=f"gate_{i}",
                shape=kernel.shape,
                initializer=keras.initializers.Constant(
                    gate.initial_value / gate.learning_rate_multiplier
                ),
                autocast=False,
            )
            self.gates.append(variable)
        self.scale = self.add_weight(
            name="scale",
            shape=(),
            initializer=keras.initializers.Constant(gate.scale),
            trainable=False,
            autocast=False,
        )
        penalty = gate.penalty / (self.num_gates if gate.normalize else 1)
        self.control = GateControl(penalty, self._steers)
        if gate.stochastic:
            self._seed_generator = keras.random.SeedGenerator(0)

    @property
    def num_gates(self):
        """Integer, the number of gates."""
        return sum(int(np.prod(variable.shape)) for variable in self.gates)

    @property
    def loss_of_gates(self):
        """Float, what the gates add to the loss as they are; see `SoftGate.penalty`."""
        temperature = ops.convert_to_numpy(self.control.temperature)
        total = sum(gate_ops.sigmoid(array, temperature).sum() for array in self.values)
        factor = ops.convert_to_numpy(self.control.penalty) * ops.convert_to_numpy(self.scale)
        return float(factor * total)

    @property
    def gate_variables(self):
        """List of the variables of the gates, their temperature and penalty included."""
        return [*self.gates, self.scale, *self.control.variables]

    @property
    def is_soft(self):
        """Whether gates are sigmoids, so that training decides about them."""
        return not self.control.is_settled

    def masked_kernels(self, training=None):
        """Returns pairs of a kernel and the tensor that takes its place in a call.

        Args:
            training: Whether the call is a training step, to which belongs the loss of the
                gates. Defaults to `None`: it is not.
        """
        state = self.control.advance() if training else self.control.current()
        scale = self.scale.value
        pairs, total, open_gates = [], 0.0, 0.0
        for i, kernel in enumerate(self.kernels):
            gate = scaled_sigmoid(self._value(i), scale, *state)
            if training:
                total = total + ops.sum(gate)
                if self.control.steers:
                    open_gates = open_gates + self._count_open(gate)
                gate = self._drawn(gate, scale)
            pairs.append((kernel, kernel.value * ops.cast(gate, kernel.dtype)))
        if training:
            self.add_loss(self.control.penalize(open_gates / self.num_gates) * total)
        return pairs

    def _count_open(self, gate):
        """Returns how many gates are open, those in between counted as little."""
        part = ops.square(ops.minimum(ops.stop_gradient(gate), 1.0))
        return ops.sum(ops.square(part))

    def _drawn(self, gate, scale):
        """Returns gates of 0 or `scale` if they are stochastic, with the gradient of `gate`."""
        if self._seed_generator is None:
            return gate
        drawn = scale * keras.random.uniform(gate.shape, seed=self._seed_generator) < gate
        return gate + ops.stop_gradient(scale * ops.cast(drawn, gate.dtype) - gate)

    def _value(self, index):
        """Returns the tensor of the values `s` of a kernel."""
        values = ops.convert_to_tensor(self.gates[index].value)
        multiplier = self.gate.learning_rate_multiplier
        if multiplier == 1.0:
            return values
        # The gradient of the variable is that of `s`, so an update of any size is multiplied.
        return values + ops.stop_gradient((multiplier - 1.0) * values)

    @property
    def values(self):
        """List of arrays, the values `s` of every kernel."""
        multiplier = np.float32(self.gate.learning_rate_multiplier)
        return [ops.convert_to_numpy(variable) * multiplier for variable in self.gates]

    def set_values(self, values):
        """Sets the values `s`.

        Args:
            values: List of arrays, one for every kernel.
        """
        multiplier = np.float32(self.gate.learning_rate_multiplier)
        for variable, array in zip(self.gates, values, strict=True):
            variable.assign(np.asarray(array, "float32") / multiplier)

    def get_masks(self):
        """Returns a list of boolean arrays, true where a gate is above 0."""
        return [ops.convert_to_numpy(gate) > 0 for gate in self.gates]

    def reopen(self):
        """Makes the gates soft again, those of kept weights at their initial value.

        Settled gates that are closed stay closed, for good.
        """
        kept = [True] * len(self.gates) if self.is_soft else self.get_masks()
        starts = [np.full(gate.shape, self.gate.initial_value) for gate in self.gates]
        self.set_values(
            [np.where(mask, start, gate_ops.SHUT) for mask, start in zip(kept, starts, strict=True)]
        )
        self.scale.assign(self.gate.scale)
        self.control.restart()

    def open_gates(self, masks):
        """Opens the gates of kept weights and closes the others, where they are not so already.

        Args:
            masks: List of boolean arrays, true where a weight is kept.
        """
        pairs = zip(masks, self.values, strict=True)
        self.set_values(
            [np.where(mask, np.maximum(s, _OPEN), np.minimum(s, 0.0)) for mask, s in pairs]
        )

    def set_masks(self, masks):
        """Opens the gates of kept weights, closes the others and settles.

        The weights that are kept stay as they are, without the scale.

        Args:
            masks: List of boolean arrays.
        """
        self.open_gates(masks)
        self.scale.assign(1.0)
        self.apply_masks()

    def get_kernels(self):
        """Returns the kernels as `apply_masks` would write them, as a list of arrays."""
        scale = ops.convert_to_numpy(self.scale)
        return [kernel * scale.astype(kernel.dtype) for kernel in super().get_kernels()]

    def apply_masks(self):
        """Settles the gates: writes `kernel * scale * (s > 0)` into the kernels.

        From then on the gates are 1 or 0 and no longer trained.
        """
        for kernel, value in zip(self.kernels, self.get_kernels(), strict=True):
            kernel.assign(value)
        self.scale.assign(1.0)
        self.control.settle()

    def remember_growth(self, decay=None, gain=1.0):
        """Raises a `ValueError`: connections cannot grow where gates decide."""
        raise ValueError(
            "Methods that grow connections need a model without gates: "
            "`tfl.sparsify(model, sparsity)`."
        )

    def _seeds(self):
        own = [] if self._seed_generator is None else [self._seed_generator.state]
        return [*super()._seeds(), *own]

    def get_config(self):
        """Returns the configuration; rules are kept as the weights they selected."""
        config = {**super().get_config(), "gate": keras.saving.serialize_keras_object(self.gate)}
        return {**config, "steers": self.control is not None and self.control.steers}

    @classmethod
    def from_config(cls, config):
        """Returns the wrapper that `config` describes."""
        config = dict(config)
        steers = config.pop("steers")
        gated = super().from_config(config)
        gated._steers = steers
        return gated
