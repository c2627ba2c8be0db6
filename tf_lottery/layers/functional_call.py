"""Call a layer with the values of some of its variables replaced."""

import keras

# `keras.StatelessScope` is public, but not the way to see whether one is active. Losses
# have to reach the active scope as the very tensors that the sublayers collected.
from keras.src.backend.common.stateless_scope import get_stateless_scope, in_stateless_scope


def functional_call(layer, replacements, *args, helpers=(), **kwargs):
    """Calls `layer` as if some of its variables had other values.

    Gradients flow into the replacing tensors. Updates that the call makes to
    non-trainable variables, such as batch statistics and seeds, and the losses it adds
    take effect as in an ordinary call.

    Args:
        layer: A built `keras.Layer`; a `keras.Model` is one.
        replacements: List of pairs of a variable of `layer` and a tensor of its shape.
        *args: Passed to the layer.
        helpers: Layers outside of `layer` that it makes use of in this call, whose variables
            are read and updated too. Defaults to none.
        **kwargs: Passed to the layer.

    Returns:
        What the layer returns.

    Raises:
        ValueError: If `layer` is not built.

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
    outer = get_stateless_scope() if in_stateless_scope() else None
    layers = (layer, *helpers)
    # Scopes do not chain: an inner one hides the outer, so it maps every variable.
    values = {id(v): (v, v.value) for called in layers for v in called.variables}
    values.update((id(variable), (variable, tensor)) for variable, tensor in replacements)
    collect_losses = outer is None or outer.collect_losses
    states = [v for called in layers for v in called.non_trainable_variables]
    with keras.StatelessScope(list(values.values()), collect_losses=collect_losses) as scope:
        before = [scope.get_current_value(v) for v in states]
        outputs = layer(*args, **kwargs)
    for variable, value in zip(states, before, strict=True):
        after = scope.get_current_value(variable)
        if after is not value:
            variable.assign(after)
    for loss in scope.losses:
        if outer is not None:
            outer.add_loss(loss)
        else:
            # A model refuses `add_loss` from its user; here its own layers added the loss.
            keras.Layer.add_loss(layer, loss)
    return outputs
