"""Temporary changes of a model's layers, for the time that it is scored."""

import contextlib
import inspect

import keras

from tf_lottery._keras import all_layers
from tf_lottery.layers.interception import intercepted, with_activation


class _ComputePolicy(keras.DTypePolicy):
    """A policy whose data types of computations and of variables are independent."""

    def __init__(self, variable_dtype, compute_dtype):
        super().__init__(variable_dtype)
        self._dtype = compute_dtype

    @property
    def compute_dtype(self):
        return self._dtype


@contextlib.contextmanager
def computing_in(model, dtype):
    """Makes all layers compute in one data type, also with mixed precision.

    Quantized layers and those that compute with integers or strings keep their policy.

    Args:
        model: A built `keras.Model`.
        dtype: String, `"float32"` or `"float64"`.
    """
    before = [
        (layer, layer.dtype_policy)
        for layer in all_layers(model)
        if type(layer.dtype_policy) is keras.DTypePolicy
        and keras.backend.is_float_dtype(layer.compute_dtype)
    ]
    try:
        for layer, policy in reversed(before):
            layer.dtype_policy = _ComputePolicy(policy.variable_dtype, dtype)
        yield
    finally:
        for layer, policy in reversed(before):
            layer.dtype_policy = policy


@contextlib.contextmanager
def remembered_activations(model):
    """Records the inputs of the activations of all layers while the model is called.

    Args:
        model: A built `keras.Model`.

    Yields:
        Function that returns the input of the activation which produced a tensor, or the tensor
        itself if none did. For an output these are the logits.
    """
    calls = []

    def remembering(activation):
        def remember(x):
            result = activation(x)
            calls.append((result, x))
            return result

        return remember

    with contextlib.ExitStack() as stack:
        for layer in all_layers(model):
            # A recurrent layer shows its cell's activation as a property; the cell is a layer too.
            if callable(vars(layer).get("activation")):
                stack.enter_context(with_activation(layer, remembering(layer.activation)))
        yield lambda tensor: next((x for result, x in calls if result is tensor), tensor)


@contextlib.contextmanager
def without_noise(model):
    """Makes layers that draw random numbers in training, such as dropout, act as in inference.

    These are recurrent layers, and layers without sublayers that own a random seed and take
    the argument `training`. All other layers act as in training.

    Args:
        model: A built `keras.Model`.
    """

    def in_inference(call):
        return lambda *args, **kwargs: call(*args, **{**kwargs, "training": False})

    with contextlib.ExitStack() as stack:
        for layer in all_layers(model):
            if _draws_in_training(layer):
                stack.enter_context(intercepted(layer, in_inference))
        yield


def _draws_in_training(layer):
    if "training" not in inspect.signature(layer.call).parameters:
        return False
    # With the fused kernels of GPUs a recurrent layer, not its cell, applies the dropout.
    if isinstance(layer, keras.layers.RNN):
        return True
    weights = {id(weight) for weight in layer.weights}
    owns_seed = any(id(v) not in weights for v in layer.non_trainable_variables)
    return owns_seed and len(all_layers(layer)) == 1
