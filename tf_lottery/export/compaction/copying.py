"""Copies layers by their configs."""

import keras
import numpy as np

from tf_lottery._keras import all_layers, output_shape_of_lambda


def config_of(operation):
    """Returns an operation's config with functions as objects, so that any function works.

    Raises:
        ValueError: If the operation has no config.
    """
    try:
        config = operation.get_config()
    except Exception as error:  # A layer's own code may fail in any way.
        raise not_copied(operation, f"whose `get_config` fails: {error}") from error
    functions = ("activation", "_initializer", "_regularizer", "_constraint")
    for name in config:
        value = getattr(operation, name, None)
        if name.endswith(functions) and callable(value) and not isinstance(value, keras.Layer):
            config[name] = value
    return config


def is_copyable(layer):
    """Returns whether a layer's config makes another layer."""
    try:
        from_config(layer, config_of(layer))
    except ValueError:
        return False
    return True


def from_config(operation, config):
    """Makes another layer or operation of the same class.

    Args:
        operation: A `keras.Layer` or `keras.Operation`.
        config: Dict that `config_of` returns, with changes.

    Raises:
        ValueError: If the class cannot be made from the config.
    """
    name = config.get("name", operation.name)
    if type(operation) is keras.layers.Lambda:
        return _copy_lambda(operation, config)
    try:
        copy = type(operation).from_config(config)
    except Exception as error:  # A layer's own code may fail in any way.
        raise not_copied(operation, f"whose `from_config` fails: {error}") from error
    if isinstance(copy, keras.Layer) and {id(x) for x in all_layers(copy)} & {
        id(x) for x in all_layers(operation)
    }:
        raise not_copied(operation, "whose copy has the same layers inside")
    # Not every operation takes its name from the config, and names must be unique.
    if copy.name != name:
        copy.name = name
    return copy


def _copy_lambda(layer, config):
    """Copies a `Lambda` layer with its function objects.

    A Python lambda that is read from a config loses the outer variables that it uses.
    """
    functions = {"function": layer.function, "mask": layer.mask, "arguments": layer.arguments}
    if "output_shape" in config:
        functions["output_shape"] = output_shape_of_lambda(layer)
    return keras.layers.Lambda(**{**config, **functions})


def not_copied(operation, reason):
    """Returns the error for a layer that cannot be copied."""
    return ValueError(
        "Argument `model` must have layers that `get_config` and `from_config` copy with all "
        f"their weights. Received: layer {operation.name!r} of {type(operation).__name__}, {reason}"
    )


def unfit_initializers(layer, config):
    """Returns the names of config entries with constant initial values of the old shape."""
    return [
        name
        for name in config
        if name.endswith("_initializer")
        and np.ndim(getattr(getattr(layer, name, None), "value", 0))
    ]
