"""Rules for layers that process every channel separately."""

import keras
import numpy as np

from tf_lottery.structured.rules.base import (
    COMPANION,
    READER,
    Edit,
    Rule,
    Use,
    shrink,
    to_numpy,
)
from tf_lottery.structured.rules.elementwise import (
    ACTIVATIONS,
    NOT_ELEMENTWISE,
    apply,
    is_elementwise,
    is_zero_at_zero,
)
from tf_lottery.structured.rules.linear import bias_use, has_borders


class _Noise(Rule):
    """Dropout and similar layers, which do nothing at inference."""

    def misfit(self, node):
        shape = getattr(node.operation, "noise_shape", None)
        # The same noise for all channels fits any number of them.
        fits = shape is None or shape[-1] in (None, 1)
        return "" if fits else "its noise has a shape of its own"


class _Pooling(Rule):
    """Maxima, averages and copies of one channel, without zero padding."""


class _ZeroPadding(Rule):
    """Zero padding. Only a constant channel of zeros is still constant after it."""

    keeps = "padding surrounds a constant with zeros"

    def constants(self, node):
        return np.where(node.inputs[0].constants == 0, 0.0, np.nan)


class _UpSampling(Rule):
    """Copies or interpolation. Interpolation may change the last bit of a constant."""

    keeps = "interpolation may change a constant"

    def constants(self, node):
        if getattr(node.operation, "interpolation", "nearest") == "nearest":
            return super().constants(node)
        return np.where(node.inputs[0].constants == 0, 0.0, np.nan)


class _Elementwise(Rule):
    """An activation as a layer or operation."""

    takes_extras = True

    def misfit(self, node):
        return (
            "" if is_elementwise(getattr(node.operation, "activation", None)) else NOT_ELEMENTWISE
        )

    def zeros(self, node, inputs):
        return inputs[0] & is_zero_at_zero(node.operation)

    def constants(self, node):
        return apply(node.operation, node.inputs[0].constants)


class _PReLU(Rule):
    """A rectifier with trained slopes, which can be shared along axes."""

    is_shareable = False
    keeps = "its slopes differ between positions"

    def uses(self, node):
        alpha = node.operation.alpha
        last = len(alpha.shape) - 1
        if alpha.shape[last] != node.outputs[0].width:
            return []
        return [Use(alpha, last, READER, node.outputs[0])]

    def constants(self, node):
        values = node.inputs[0].constants
        alpha = to_numpy(node.operation.alpha)
        alpha = alpha.reshape(-1, alpha.shape[-1])
        slopes = np.where((alpha == alpha[0]).all(axis=0), alpha[0], np.nan)
        return np.where(values >= 0, values, slopes * values)

    def edit(self, node):
        y = node.outputs[0]
        alpha = to_numpy(node.operation.alpha)
        if alpha.shape[-1] != y.width:
            return Edit({}, {"alpha": alpha})
        return Edit({}, {"alpha": shrink(alpha, -1, y.kept, y.needed)})


class _BatchNormalization(Rule):
    """Batch normalization. A channel whose scale is zero is constant: it equals its shift."""

    is_shareable = False
    takes_extras = True

    def misfit(self, node):
        axis, rank = node.operation.axis, len(node.inputs[0].shape)
        return "" if axis in (-1, rank - 1) else "it normalizes another axis than the last"

    def uses(self, node):
        layer, y = node.operation, node.outputs[0]
        # Scale and shift make a channel zero, without a scale mean and shift.
        roles = {
            "gamma": COMPANION,
            "beta": COMPANION,
            "moving_mean": COMPANION if layer.gamma is None else READER,
            "moving_variance": READER,
        }
        weights = {name: getattr(layer, name) for name in roles}
        return [Use(v, 0, roles[name], y) for name, v in weights.items() if v is not None]

    def zeros(self, node, inputs):
        return inputs[0] | (node.operation.gamma is not None)

    def constants(self, node):
        scale, shift = self._affine(node.operation)
        return np.where(scale == 0, shift, node.inputs[0].constants * scale + shift)

    def needs(self, node):
        scale, _ = self._affine(node.operation)
        return [node.outputs[0].needed & (scale != 0)]

    def edit(self, node):
        layer, y = node.operation, node.outputs[0]
        names = ("gamma", "beta", "moving_mean")
        weights = {name: to_numpy(v) for name in names if (v := getattr(layer, name)) is not None}
        weights = {name: shrink(array, 0, y.kept, y.needed) for name, array in weights.items()}
        variance = to_numpy(layer.moving_variance)[y.kept]
        return Edit({}, {**weights, "moving_variance": variance})

    def _affine(self, layer):
        mean, variance = to_numpy(layer.moving_mean), to_numpy(layer.moving_variance)
        scale = 1 / np.sqrt(variance.astype("float64") + layer.epsilon)
        if layer.gamma is not None:
            scale *= to_numpy(layer.gamma)
        shift = -mean * scale
        return scale, shift if layer.beta is None else shift + to_numpy(layer.beta)


class _DepthwiseConv(Rule):
    """A convolution that gives every channel its own kernels."""

    is_shareable = False
    keeps = "padding surrounds a constant with zeros"

    def misfit(self, node):
        return "" if is_elementwise(node.operation.activation) else NOT_ELEMENTWISE

    def ties(self, node):
        y = np.arange(node.outputs[0].width)
        return [(y // node.operation.depth_multiplier, y)]

    def uses(self, node):
        layer, x, y = node.operation, node.inputs[0], node.outputs[0]
        # A channel that is zero stays zero, so that the kernel needs no mask.
        return [Use(layer.kernel, len(layer.kernel.shape) - 2, READER, x), *bias_use(layer, y)]

    def zeros(self, node, inputs):
        return super().zeros(node, inputs) & is_zero_at_zero(node.operation.activation)

    def constants(self, node):
        layer = node.operation
        kernel = self._kernel(layer)
        [(i, _)] = self.ties(node)
        values = node.inputs[0].constants[i]
        if has_borders(layer):
            values = np.where(values == 0, 0.0, np.nan)
        values = values * kernel.sum(axis=0, dtype="float64")
        values[(kernel == 0).all(axis=0)] = 0.0
        return apply(layer.activation, values + (to_numpy(layer.bias) if layer.use_bias else 0.0))

    def needs(self, node):
        [(i, _)] = self.ties(node)
        need = np.zeros(node.inputs[0].width, bool)
        multiplies = (self._kernel(node.operation) != 0).any(axis=0)
        np.logical_or.at(need, i, node.outputs[0].needed & multiplies)
        return [need]

    def edit(self, node):
        layer, x, y = node.operation, node.inputs[0], node.outputs[0]
        kernel = to_numpy(layer.kernel)
        needed = y.needed.reshape(kernel.shape[-2:])
        weights = {"kernel": np.where(needed, kernel, 0.0)[..., x.kept, :]}
        if layer.use_bias:
            weights["bias"] = shrink(to_numpy(layer.bias), 0, y.kept, y.needed)
        return Edit({}, weights)

    def _kernel(self, layer):
        """Returns the kernel in shape `(positions, outputs)`."""
        kernel = to_numpy(layer.kernel)
        return kernel.reshape(-1, kernel.shape[-2] * kernel.shape[-1])


_KINDS = {
    _Noise: "Dropout AlphaDropout GaussianDropout GaussianNoise SpatialDropout1D SpatialDropout2D "
    "SpatialDropout3D ActivityRegularization Identity",
    _Pooling: "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D "
    "AveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D "
    "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D Cropping1D Cropping2D "
    "Cropping3D RepeatVector",
    _ZeroPadding: "ZeroPadding1D ZeroPadding2D ZeroPadding3D",
    _UpSampling: "UpSampling1D UpSampling2D UpSampling3D",
    _Elementwise: "Activation ReLU LeakyReLU ELU",
    _PReLU: "PReLU",
    _BatchNormalization: "BatchNormalization",
    _DepthwiseConv: "DepthwiseConv1D DepthwiseConv2D",
}
RULES = {
    getattr(keras.layers, name): kind() for kind, names in _KINDS.items() for name in names.split()
}
# Operations of `keras.ops` in a functional model.
OPERATIONS = dict.fromkeys(ACTIVATIONS, _Elementwise())
