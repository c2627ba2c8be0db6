"""Call a layer with the values of some of its variables replaced."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tf_lottery import _keras


def functional_call(
    layer: keras.Layer,
    replacements: list[tuple],
    *args: Any,
    read_only: dict[int, str] | None = None,
    call: Callable | None = None,
    **kwargs: Any,
) -> Any:
    """Calls `layer` as if some of its variables had other values.

    Gradients flow into the replacement tensors. As in an ordinary call, variables that the layer
    assigns, such as batch statistics, seeds or the kernels of spectral normalization, keep their
    new values, and losses that it adds count. Variables of other layers that are used in this call,
    such as those of tweaks, are read and assigned as outside of it. Layers created in a
    `keras.RematScope` save memory in this call only on JAX.

    Args:
        layer: A built `keras.Layer`; a `keras.Model` is one.
        replacements: List of pairs of a variable of `layer` and a tensor of its shape.
        *args: Passed to the layer.
        read_only: Dict from the `id` of each variable that the call must not assign to the
            message of the error. Defaults to `None`: the call may assign all variables.
        call: Function to call in place of `layer`, for example its `call` in an interception.
            Defaults to `None`: `layer` itself.
        **kwargs: Passed to the layer.

    Returns:
        What the layer returns.

    Raises:
        ValueError: If `layer` is not built, or assigns a read-only variable.

    Example:

    >>> layer = keras.layers.Dense(1, use_bias=False)
    >>> layer.build((None, 2))
    >>> outputs = functional_call(layer, [(layer.kernel, ops.ones((2, 1)))], np.ones((1, 2)))
    >>> ops.convert_to_numpy(outputs)
    array([[2.]], dtype=float32)
    """
    if not layer.built:
        raise ValueError(
            "Argument `layer` must be built before a functional call. "
            f"Received: {layer.name!r}, which has no variables yet"
        )
    outer = _keras.active_scope()
    values = {id(variable): (variable, variable.value) for variable in layer.variables}
    values.update((id(variable), (variable, tensor)) for variable, tensor in replacements)
    collect_losses = outer is None or outer.collect_losses
    with (
        _CallScope(list(values.values()), collect_losses, read_only, outer) as scope,
        _computed_once(layer),
    ):
        outputs = (call or layer)(*args, **kwargs)
    for variable in scope.assigned.values():
        variable.assign(scope.get_current_value(variable))
    for loss in scope.losses:
        if outer is not None:
            outer.add_loss(loss)
        else:
            # `add_loss` of a functional model raises an error; that of `keras.Layer` does not.
            keras.Layer.add_loss(layer, loss)
    return outputs


def _computed_once(layer):
    """Returns a context in which no layer computes its activations again for the gradients."""
    if keras.backend.backend() == "jax":
        return contextlib.nullcontext()
    # Other backends do it after the call has ended, with the stored values of the variables.
    return _keras.no_rematerialization(layer)


class _CallScope(keras.StatelessScope):
    """The scope of a functional call. Assigned weights get the same gradients as in Keras.

    In Keras an inner scope hides the outer one. Here, variables that are not those of the called
    layer have the values that they have in the outer scope.
    """

    def __init__(self, values, collect_losses, read_only, outer):
        super().__init__(values, collect_losses=collect_losses)
        self.read_only = read_only or {}
        self.outer = outer
        self.assigned = {}

    def get_current_value(self, variable):
        """Returns the value of a variable in this scope or the outer one, or `None`."""
        value = super().get_current_value(variable)
        if value is None and self.outer is not None:
            return self.outer.get_current_value(variable)
        return value

    def add_update(self, update):
        """Records the value that a layer assigns to a variable in its call."""
        variable, value = update
        if id(variable) in self.read_only:
            raise ValueError(self.read_only[id(variable)])
        if variable.trainable and keras.backend.backend() != "jax":
            # On these backends Keras assigns in place: the weight gets the gradient of the
            # assigned value, and no gradient flows to the tensors it was computed from.
            # Not `variable.value`, which has the precision of the layer that is called.
            current = self.get_current_value(variable)
            if current is None:
                current = ops.cast(variable.value, variable.dtype)
            # Keras 3.12 gives the assigned value the precision of the layer.
            dtype = keras.backend.standardize_dtype(current.dtype)
            value = ops.stop_gradient(ops.cast(value, dtype))
            value = value + (current - ops.stop_gradient(current))
        super().add_update((variable, value))
        self.assigned[id(variable)] = variable
