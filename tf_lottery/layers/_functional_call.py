"""Call a layer with the values of some of its variables replaced."""

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from tf_lottery import _keras


def functional_call(
    layer: keras.Layer,
    replacements: list[tuple],
    *args,
    helpers: Iterable = (),
    read_only: dict[int, str] | None = None,
    **kwargs,
) -> Any:
    """Calls `layer` as if some of its variables had other values.

    Gradients flow into the replacing tensors. What the call assigns to variables, such as batch
    statistics, seeds or the kernels of spectral normalization, and the losses it adds take
    effect as in an ordinary call.

    Args:
        layer: A built `keras.Layer`; a `keras.Model` is one.
        replacements: List of pairs of a variable of `layer` and a tensor of its shape.
        *args: Passed to the layer.
        helpers: Layers outside of `layer` that it makes use of in this call, whose variables
            are read and updated too. Defaults to none.
        read_only: Dict of the `id` of variables that the call must not assign to the text of
            the error if it does. Defaults to `None`: it may assign all.
        **kwargs: Passed to the layer.

    Returns:
        What the layer returns.

    Raises:
        ValueError: If `layer` is not built, or assigns a variable that is read-only.

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
    # Scopes do not chain: an inner one hides the outer, so it maps every variable.
    variables = {id(v): v for called in (layer, *helpers) for v in called.variables}
    values = {key: (variable, variable.value) for key, variable in variables.items()}
    values.update((id(variable), (variable, tensor)) for variable, tensor in replacements)
    collect_losses = outer is None or outer.collect_losses
    with _CallScope(list(values.values()), collect_losses, read_only) as scope:
        before = {key: scope.get_current_value(v) for key, v in variables.items()}
        outputs = layer(*args, **kwargs)
    for key, variable in variables.items():
        after = scope.get_current_value(variable)
        if after is not before[key]:
            variable.assign(after)
    for loss in scope.losses:
        if outer is not None:
            outer.add_loss(loss)
        else:
            # A model refuses `add_loss` from its user; here its own layers added the loss.
            keras.Layer.add_loss(layer, loss)
    return outputs


class _CallScope(keras.StatelessScope):
    """The scope of a functional call, in which assigned weights are trained as Keras does it."""

    def __init__(self, values, collect_losses, read_only):
        super().__init__(values, collect_losses=collect_losses)
        self.read_only = read_only or {}

    def add_update(self, update):
        """Takes the value that a layer assigns to a variable in its call."""
        variable, value = update
        if id(variable) in self.read_only:
            raise ValueError(self.read_only[id(variable)])
        if variable.trainable and keras.backend.backend() != "jax":
            # Where variables are assigned in place, the gradient of a weight is that of its
            # assigned value, and does not flow on to what the value was computed from.
            current = self.get_current_value(variable)
            value = ops.stop_gradient(value) + (current - ops.stop_gradient(current))
        super().add_update((variable, value))
