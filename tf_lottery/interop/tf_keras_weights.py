"""Names the weights of a `tf_keras` model by the paths that Keras 3 would give them."""

import collections
import itertools
import re

import keras

from tf_lottery.layers.weights import unique_paths
from tf_lottery.model import SparseModel

_Named = collections.namedtuple("_Named", "path")


def is_a(value, name, package):
    """Returns whether a value is an instance of a class, given by its name and package.

    Args:
        value: Any object.
        name: String, the name of the class.
        package: String, the top-level package of its module.
    """
    return any(
        kind.__name__ == name and kind.__module__.split(".")[0] == package
        for kind in type(value).__mro__
    )


def paths_like_keras(model, weights, hidden=()):
    """Returns paths of weights, built from the names of layers as in Keras 3.

    The names of variables cannot be used: `tf_keras` drops the layers from them when it loads a
    model, and they may contain the names of pruning wrappers.

    Args:
        model: A built `tf_keras` model.
        weights: List of variables of the model.
        hidden: Collection of layers whose names are left out of the paths. Defaults to `()`.

    Returns:
        List of strings, all different.
    """
    owners = collections.defaultdict(list)
    layers = [model, *(part for part in model.submodules if is_a(part, "Layer", "tf_keras"))]
    # A layer has more submodules than any layer inside it, so outer layers come first.
    layers.sort(key=lambda layer: -len(layer.submodules))
    for layer in layers:
        if _names_paths(layer) and not any(layer is other for other in hidden):
            for weight in layer.weights:
                owners[id(weight)].append(layer.name)
    paths = ["/".join([*owners[id(weight)], _last_name(weight)]) for weight in weights]
    return unique_paths([_Named(path) for path in _depthwise_renamed(paths)])


def paths_of(model, pruned_model, weights, names):
    """Returns the paths of a Keras 3 model's weights, which must have the same order.

    Args:
        model: A built Keras 3 model, sparse or not.
        pruned_model: The `tf_keras` model, named in errors.
        weights: List of the variables of the `tf_keras` model.
        names: List of their paths, from `paths_like_keras`.

    Returns:
        List of strings, all different.

    Raises:
        ValueError: If `model` is not a built Keras 3 model or has another architecture.
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            "Argument `model` must be a built Keras 3 model. "
            f"Received: {type(model).__module__}.{type(model).__name__}"
        )
    variables = (model.model if isinstance(model, SparseModel) else model).weights
    theirs = [(name, tuple(weight.shape)) for name, weight in zip(names, weights, strict=True)]
    ours = [(variable.path, tuple(variable.shape)) for variable in variables]
    for there, here in itertools.zip_longest(theirs, ours):
        if _without_layers(there) != _without_layers(here):
            raise ValueError(
                "Argument `model` must have the weights of the pruned model in the same order. "
                f"Received: {model.name!r} with {_text(here)}, where {pruned_model.name!r} has "
                f"{_text(there)}"
            )
    return unique_paths(variables)


def _names_paths(layer):
    """Returns whether the name of a layer is part of the paths of its weights."""
    # Not that of a functional model: its layers are built before the model is made.
    functional, sequential = (is_a(layer, n, "tf_keras") for n in ("Functional", "Sequential"))
    return sequential or not functional


def _depthwise_renamed(paths):
    """Renames depthwise kernels as in Keras 3, except those of separable layers."""
    known = set(paths)
    return [
        f"{path.removesuffix('depthwise_kernel')}kernel"
        if path.endswith("/depthwise_kernel")
        and f"{path.removesuffix('depthwise_kernel')}pointwise_kernel" not in known
        else path
        for path in paths
    ]


def _last_name(weight):
    return re.sub(r":\d+$", "", weight.name).split("/")[-1]


def _without_layers(named_shape):
    if named_shape is None:
        return None
    path, shape = named_shape
    return path.split("/")[-1].split("#")[0], shape


def _text(named_shape):
    return "no weight" if named_shape is None else f"{named_shape[0]} of shape {named_shape[1]}"
