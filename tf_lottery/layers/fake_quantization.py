"""Rounds weights and activations in the forward pass as an integer file will."""

import contextlib
import functools

import keras
from keras import ops

from tf_lottery import _keras
from tf_lottery._keras import all_layers
from tf_lottery.layers._functional_call import functional_call
from tf_lottery.layers.interception import intercepted, with_activation
from tf_lottery.layers.part import Part

# TFLite's integers: weights without -128, so that 0 is in the middle; activations with it.
LARGEST_WEIGHT = 127
LOWEST, HIGHEST = -128, 127
# No scale is smaller than that of this range, which the quantizer has too.
SMALLEST_RANGE = 1e-9
# The momentum of ranges is at most `n / (n + WARM_UP)` after `n` batches.
WARM_UP = 9


def fake_quantize_kernel(kernel, axes):
    """Rounds a kernel to 255 symmetric steps per output channel, with a straight-through gradient.

    The step of a channel is `max|w| / 127` and 0 is on the grid, so that zeros stay zeros. A
    channel can be multiplied by a number before or after rounding with the same result. That is
    why batch normalization, which a file multiplies into the kernel, needs no special care.

    Args:
        kernel: Floating point tensor.
        axes: Sequence of integers, the axes of the output channels.

    Returns:
        Tensor of the same shape. Its gradient is passed to `kernel` unchanged.

    Example:

    >>> kernel = ops.convert_to_tensor([[1.27, 0.0], [0.504, -0.127]])
    >>> ops.convert_to_numpy(fake_quantize_kernel(kernel, [-1]))
    array([[ 1.27 ,  0.   ],
           [ 0.5  , -0.127]], dtype=float32)
    """
    rank = len(kernel.shape)
    channels = {axis % rank for axis in axes}
    others = [axis for axis in range(rank) if axis not in channels]
    scale = ops.max(ops.abs(kernel), axis=others, keepdims=True) / LARGEST_WEIGHT
    scale = ops.where(scale > 0, scale, ops.ones_like(scale))
    return _straight_through(kernel, ops.round(kernel / scale) * scale)


def fake_quantize(x, low, high):
    """Rounds a tensor to 256 steps between two numbers, with a straight-through gradient.

    The range is widened to include 0, and moved by less than a step so that 0 is on the grid.

    Args:
        x: Floating point tensor.
        low: Scalar tensor, the smallest value.
        high: Scalar tensor, the largest value.

    Returns:
        Tensor of the same shape. Its gradient is passed to `x` where `x` is within the range,
        and is 0 elsewhere.

    Example:

    >>> ops.convert_to_numpy(fake_quantize(ops.convert_to_tensor([0.0, 0.26, 9.0]), 0.0, 25.5))
    array([0. , 0.3, 9. ], dtype=float32)
    """
    low, high = ops.minimum(low, 0.0), ops.maximum(high, 0.0)
    scale = ops.maximum(high - low, SMALLEST_RANGE) / (HIGHEST - LOWEST)
    zero_point = ops.round(LOWEST - low / scale)
    x = ops.clip(x, (LOWEST - zero_point) * scale, (HIGHEST - zero_point) * scale)
    return _straight_through(x, ops.round(x / scale) * scale)


def _straight_through(x, rounded):
    return x + ops.stop_gradient(rounded - x)


@keras.saving.register_keras_serializable("tf_lottery")
class TrackedRange(keras.layers.Layer):
    """Rounds a tensor to the range of 8-bit integers that it has tracked in training.

    Args:
        momentum: Float in [0, 1), of the moving averages of the smallest and largest value of a
            batch. After `n` batches it is at most `n / (n + 9)`, so that the first ones, before
            the network has adapted, are soon forgotten.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        limits: Variable of shape (2,), the smallest and the largest value.
        batches: Variable, how many batches were seen. Before the first one nothing is rounded.
    """

    def __init__(self, momentum, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})
        self.momentum = momentum
        # Each of several replicas tracks its own batches, as in batch normalization.
        settings = {"initializer": "zeros", "trainable": False, "autocast": False}
        self.limits = self.add_weight(name="limits", shape=(2,), **settings)
        self.batches = self.add_weight(name="batches", shape=(), **settings)
        self.built = True

    def call(self, x, training=None):
        """Returns the rounded tensor, and tracks its range in training."""
        given = ops.cast(x, "float32")
        limits, batches = (ops.convert_to_tensor(v.value) for v in (self.limits, self.batches))
        if training:
            found = ops.stop_gradient(ops.stack([ops.min(given), ops.max(given)]))
            momentum = ops.minimum(self.momentum, batches / (batches + WARM_UP))
            limits = momentum * limits + (1.0 - momentum) * found
            batches = batches + 1.0
            self.limits.assign(limits)
            self.batches.assign(batches)
        rounded = fake_quantize(given, limits[0], limits[1])
        rounded = ops.where(batches > 0, rounded, given)
        # Integers, such as pixels that a model takes as floats, become floats.
        return ops.cast(rounded, x.dtype) if keras.backend.is_float_dtype(x.dtype) else rounded

    def compute_output_shape(self, input_shape):
        """Returns the shape of the input."""
        return input_shape

    def range(self):
        """Returns the smallest and the largest value, or `None` if no batch was seen."""
        low, high = ops.convert_to_numpy(self.limits).tolist()
        return (low, high) if float(ops.convert_to_numpy(self.batches)) else None

    def get_config(self):
        """Returns the configuration."""
        return {**super().get_config(), "momentum": self.momentum}


@keras.saving.register_keras_serializable("tf_lottery")
class FakeQuantization(Part):
    """Rounds kernels, inputs and activations in the forward pass, as a full int8 file does.

    Args:
        inputs: List of integers, the positions of the model's inputs that are rounded.
        targets: List of dicts, one for every layer that changes, with these keys: `name`;
            `index`, its position in `all_layers` of the wrapped layer; `kernels`, a dict of the
            attributes of its kernels to the axes of their output channels; `before`, whether
            values are rounded before the layer's own activation; and `after`, whether its
            outputs are rounded.
        momentum: Float in [0, 1), of the tracked ranges. Defaults to `0.99`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        ranges: List of `TrackedRange`, those of the inputs first.
    """

    changes_call = True

    def __init__(self, inputs, targets, momentum=0.99, **kwargs):
        super().__init__(**{"name": "fake_quantization", **kwargs})
        self.inputs, self.targets = list(inputs), [dict(target) for target in targets]
        self.momentum = momentum
        self.ranges = [
            TrackedRange(momentum, name=f"{place}_{index}") for place, index in self._places()
        ]
        self.built = True

    @property
    def layer_names(self):
        """List of the names of the layers whose kernels are rounded."""
        return [target["name"] for target in self.targets if target["kernels"]]

    @contextlib.contextmanager
    def in_effect(self, layer):
        """Makes the layers compute with rounded kernels and round their outputs."""
        layers = all_layers(layer)
        with contextlib.ExitStack() as stack:
            for target in self.targets:
                if target["kernels"]:
                    rounding = _rounding(layers[target["index"]], target["kernels"])
                    stack.enter_context(rounding)
            stack.enter_context(self.observed(layer, lambda tracked, x: tracked(x)))
            yield

    @contextlib.contextmanager
    def observed(self, layer, function):
        """Passes the inputs and activations that are rounded through a function.

        Args:
            layer: The wrapped `keras.Layer`.
            function: Function of a `TrackedRange` and a tensor that returns a tensor.
        """
        layers = all_layers(layer)
        functions = {
            place: functools.partial(function, tracked)
            for place, tracked in zip(self._places(), self.ranges, strict=True)
        }
        with contextlib.ExitStack() as stack:
            by_input = {position: functions["input", position] for position in self.inputs}
            stack.enter_context(_changing_inputs(layer, by_input))
            for target in self.targets:
                index, changed = target["index"], layers[target["index"]]
                if target["before"]:
                    before = _then(functions["before", index], changed.activation)
                    stack.enter_context(with_activation(changed, before))
                if target["after"]:
                    stack.enter_context(_changing_outputs(changed, functions["after", index]))
            yield

    def _places(self):
        """Returns pairs of a place, `"input"`, `"before"` or `"after"`, and an index."""
        places = [("input", position) for position in self.inputs]
        for target in self.targets:
            places += [(when, target["index"]) for when in ("before", "after") if target[when]]
        return places

    def get_config(self):
        """Returns the configuration."""
        settings = {"inputs": self.inputs, "targets": self.targets, "momentum": self.momentum}
        return {**super().get_config(), **settings}


def _then(first, second):
    return lambda x: second(first(x))


def _changing_outputs(layer, function):
    return intercepted(layer, lambda call: lambda *args, **kwargs: function(call(*args, **kwargs)))


def _changing_inputs(layer, functions):
    """Applies functions to some inputs of a layer, by their positions."""

    def change(call):
        def changed(inputs, *args, **kwargs):
            tensors = keras.tree.flatten(inputs)
            for position, function in functions.items():
                tensors[position] = function(tensors[position])
            return call(keras.tree.pack_sequence_as(inputs, tensors), *args, **kwargs)

        return changed

    return intercepted(layer, change)


def _rounding(layer, kernels):
    """Gives a layer rounded kernels while a sparse model calls it.

    Args:
        layer: A `keras.Layer`.
        kernels: Dict of the attributes of its kernels to the axes of their output channels.
    """

    def change(call):
        def rounded(*args, **kwargs):
            scope, replacements = _keras.active_scope(), []
            for name, axes in kernels.items():
                kernel = getattr(layer, name)
                # The full precision that the file is rounded from; `kernel.value` has the layer's.
                value = scope.get_current_value(kernel)
                replacements.append((kernel, fake_quantize_kernel(value, axes)))
            return functional_call(layer, replacements, *args, call=call, **kwargs)

        return rounded

    return intercepted(layer, change)
