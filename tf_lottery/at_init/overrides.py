"""Settings of a model's layers while the model is scored, and restored afterwards."""

import contextlib

import keras


class _ComputePolicy(keras.DTypePolicy):
    """Computes in a data type of its own with variables of another."""

    def __init__(self, variable_dtype, compute_dtype):
        super().__init__(variable_dtype)
        self._dtype = compute_dtype

    @property
    def compute_dtype(self):
        return self._dtype


@contextlib.contextmanager
def computing_in(model, dtype):
    """Lets all layers compute in one data type, whatever their mixed precision.

    Quantized layers and those that compute with integers or strings keep their policy.

    Args:
        model: A built `keras.Model`.
        dtype: String, `"float32"` or `"float64"`.
    """
    before = [
        (layer, layer.dtype_policy)
        for layer in _layers(model)
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
    """Remembers what the activations of all layers were given while the model is called.

    Args:
        model: A built `keras.Model`.

    Yields:
        Function of a tensor that returns the tensor which an activation turned into it, or
        itself if none did: the logits of an output.
    """
    # Recurrent layers show the activation of their cell, which is a layer itself.
    layers = [layer for layer in _layers(model) if callable(vars(layer).get("activation"))]
    before = [(layer, layer.activation) for layer in layers]
    calls = []

    def remembering(activation):
        def remember(x):
            result = activation(x)
            calls.append((result, x))
            return result

        return remember

    try:
        for layer, activation in before:
            layer.activation = remembering(activation)
        yield lambda tensor: next((given for made, given in calls if made is tensor), tensor)
    finally:
        for layer, activation in reversed(before):
            layer.activation = activation


def _layers(model):
    # Keras has no public way to walk the sublayers of an arbitrary layer.
    return list(model._flatten_layers())
