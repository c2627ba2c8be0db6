"""Smooth activations that replace rectifiers, temporarily or permanently."""

import contextlib
import functools
import math

import keras
from keras import ops

from tf_lottery._keras import all_layers
from tf_lottery.layers.interception import intercepted, with_activation
from tf_lottery.layers.part import Part

# `f(beta x) / beta` for functions f with f(u) -> max(u, 0) for large |u|, and the initial slope.
# The formulas are rearranged, since the literal form overflows in half precision.
ACTIVATIONS = {
    "swish": (lambda x, beta: x * ops.sigmoid(beta * x), 1.0),
    "pswish": (lambda x, beta: x * ops.sigmoid(beta * x), 2.0),
    "gelu": (lambda x, beta: x * 0.5 * (1.0 + ops.erf(beta * x * math.sqrt(0.5))), 1.0),
    "mish": (lambda x, beta: x * ops.tanh(ops.softplus(beta * x)), 1.0),
    "elu": (lambda x, beta: ops.relu(x) + ops.expm1(-beta * ops.relu(-x)) / beta, 1.0),
    "softplus": (lambda x, beta: ops.relu(x) + ops.log1p(ops.exp(-beta * ops.abs(x))) / beta, 1.0),
}
# A larger slope overflows in half precision, where the function already equals the rectifier.
_STEEPEST = 1e4
# Keras' own functions, which are the same at slope 1.
_KERAS = {
    "swish": keras.activations.silu,
    "gelu": keras.activations.gelu,
    "mish": keras.activations.mish,
    "elu": keras.activations.elu,
    "softplus": keras.activations.softplus,
}


@keras.saving.register_keras_serializable("tf_lottery")
class SoftActivation:
    """A smooth function near the rectifier, `f(beta x) / beta`.

    Args:
        activation: `"swish"`, `"pswish"`, `"gelu"`, `"mish"`, `"elu"` or `"softplus"`.
        beta: Float > 0, the slope. The larger it is, the closer the function is to the rectifier.
        max_value: Float, the highest value, as in `relu6`. Defaults to `None`: no limit.

    Example:

    >>> round(float(SoftActivation("swish", beta=1.0)(ops.ones(()))), 4)
    0.7311
    """

    def __init__(self, activation, beta, max_value=None):
        self.activation = activation
        self.beta = beta
        self.max_value = max_value

    def __call__(self, x):
        """Returns the function value for a tensor."""
        y = ACTIVATIONS[self.activation][0](x, self.beta)
        return y if self.max_value is None else ops.minimum(y, self.max_value)

    def get_config(self):
        """Returns the constructor's arguments."""
        return vars(self).copy()

    @classmethod
    def from_config(cls, config):
        """Returns the function that `config` describes."""
        return cls(**config)


@keras.saving.register_keras_serializable("tf_lottery")
class SoftActivations(Part):
    """Replaces rectifiers by `f(beta x) / beta`, which approaches the rectifier as `beta` grows.

    Args:
        activation: String, a key of `ACTIVATIONS`.
        targets: List of dicts with these keys: `name` of a layer; `index`, its position in
            `all_layers` of the wrapped layer; `is_layer`, whether the layer itself is the
            rectifier, or has it as `activation`; and `max_value` of the rectifier, or `None`.
        beta: Float > 0, the initial slope. Defaults to `None`: that of the activation.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        softness: Variable, `1 / beta`. At 0 the model computes the rectifiers themselves.
    """

    changes_call = True

    def __init__(self, activation, targets, beta=None, **kwargs):
        super().__init__(**{"name": "soft_activations", **kwargs})
        self.activation = activation
        self.targets = [dict(target) for target in targets]
        self.initial_beta = ACTIVATIONS[activation][1] if beta is None else float(beta)
        self.softness = self.add_weight(
            name="softness",
            shape=(),
            initializer=keras.initializers.Constant(1.0 / self.initial_beta),
            trainable=False,
            autocast=False,
        )
        self.built = True

    @property
    def layer_names(self):
        """List of the names of the layers whose rectifiers are replaced."""
        return [target["name"] for target in self.targets]

    @property
    def beta(self):
        """Float, the current slope. It is infinite when the model computes the rectifiers."""
        softness = float(ops.convert_to_numpy(self.softness))
        return 1.0 / softness if softness else math.inf

    @contextlib.contextmanager
    def in_effect(self, layer):
        """Makes the layers compute the smooth function."""
        with contextlib.ExitStack() as stack:
            for target, is_layer, max_value in self._targets_in(layer):
                function = functools.partial(self._compute, max_value)
                if is_layer:
                    stack.enter_context(intercepted(target, lambda call, f=function: f))
                else:
                    stack.enter_context(with_activation(target, function))
            yield

    def edits(self, layer):
        """Returns the changes that give the layers the function with the current slope."""
        return self._edits(layer, self._settled)

    def removal_edits(self, layer):
        """Returns the changes that give the layers their rectifiers back."""
        return self._edits(layer, lambda max_value: None)

    def _edits(self, layer, function_of):
        edits = []
        for target, is_layer, max_value in self._targets_in(layer):
            function = function_of(max_value)
            if not is_layer:
                edits.append((target, "activation", function or _rectifier(max_value)))
            elif function is None:
                edits.append((target, "__class__", keras.layers.ReLU))
                # In a loaded model, the layer is an `Activation` without these attributes.
                rectifier = {"max_value": max_value, "negative_slope": 0.0, "threshold": 0.0}
                edits += [(target, name, value) for name, value in rectifier.items()]
            else:
                # Other layers and graphs of models refer to the `ReLU` layer. Therefore its class
                # is changed to `Activation`, instead of replacing the layer.
                edits.append((target, "__class__", keras.layers.Activation))
                edits.append((target, "activation", function))
        return edits

    def get_config(self):
        """Returns the configuration."""
        return {
            **super().get_config(),
            "activation": self.activation,
            "targets": self.targets,
            "beta": self.initial_beta,
        }

    def _targets_in(self, layer):
        layers = all_layers(layer)
        return [
            (layers[target["index"]], target["is_layer"], target["max_value"])
            for target in self.targets
        ]

    def _compute(self, max_value, x):
        x = ops.convert_to_tensor(x)
        softness = ops.convert_to_tensor(self.softness.value)
        is_soft = softness > 0
        # The branch that is not selected must be finite too, otherwise its gradient is NaN.
        beta = ops.minimum(1.0 / ops.where(is_soft, softness, 1.0), _STEEPEST)
        soft = SoftActivation(self.activation, ops.cast(beta, x.dtype), max_value)(x)
        return ops.where(is_soft, soft, _rectifier(max_value)(x))

    def _settled(self, max_value):
        """Returns the function with the current slope, or `None` for the rectifier."""
        if self.beta == math.inf:
            return None
        if self.beta == 1 and max_value is None and self.activation in _KERAS:
            return _KERAS[self.activation]
        return SoftActivation(self.activation, min(self.beta, _STEEPEST), max_value)


def max_value_of(activation):
    """Returns the `max_value` of a rectifier, which can be `None`, or `False` for others.

    Args:
        activation: Function, or a `keras.layers.ReLU`.
    """
    if type(activation) is keras.layers.ReLU:
        is_plain = not activation.negative_slope and not activation.threshold
        return activation.max_value if is_plain else False
    if activation is keras.activations.relu:
        return None
    return 6.0 if activation is keras.activations.relu6 else False


def _rectifier(max_value):
    if max_value is None:
        return keras.activations.relu
    if max_value == 6:
        return keras.activations.relu6
    return functools.partial(keras.activations.relu, max_value=max_value)
