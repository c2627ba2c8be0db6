"""Weights of a layer: their names, the layers that they belong to, and which are state."""

import collections

import keras

from tf_lottery._keras import all_layers, is_state


def unique_paths(variables):
    """Returns the variables' paths. Repeated paths get the suffix `#2`, `#3` and so on.

    Args:
        variables: List of Keras variables.

    Returns:
        List of strings, all different.
    """
    counts = collections.Counter()
    paths = []
    for variable in variables:
        counts[variable.path] += 1
        count = counts[variable.path]
        paths.append(variable.path if count == 1 else f"{variable.path}#{count}")
    return paths


def owners_of_weights(layer):
    """Returns the layer that created each weight, which is the deepest layer that lists it.

    Args:
        layer: A built `keras.Layer`.

    Returns:
        Dict from the `id` of every weight to a layer.
    """
    owners = {}
    # `all_layers` lists a layer before its sublayers, so the deepest owner is written last.
    for sublayer in all_layers(layer):
        owners.update((id(weight), sublayer) for weight in sublayer.weights)
    return owners


def shared_weights(layer):
    """Returns the set of the `id` of every weight that several layers use as their own.

    A layer that lists a weight because a layer inside it does is not one of them.

    Args:
        layer: A built `keras.Layer`.

    Example:

    >>> first, second = keras.layers.Dense(4), keras.layers.Dense(4)
    >>> first.build((None, 4))
    >>> second.weight_of_first = first.kernel
    >>> len(shared_weights(keras.Sequential([first, second])))
    1
    """
    counts = collections.Counter()
    for sublayer in all_layers(layer):
        inner = {id(w) for other in all_layers(sublayer)[1:] for w in other.weights}
        counts.update({id(weight) for weight in sublayer.weights} - inner)
    return {key for key, count in counts.items() if count > 1}


def is_float_state(weight, owner):
    """Returns whether a weight is state of its layer, such as a statistic, that is not trained.

    Quantized kernels, which are not trained either, are integers.

    Args:
        weight: A Keras variable.
        owner: The `keras.Layer` that created it.
    """
    return is_state(owner, weight) and keras.backend.is_float_dtype(weight.dtype)
