"""Reads the weights of a network that is given as a snapshot, ticket, model or dict."""

import keras
import numpy as np

from tf_lottery import hosts
from tf_lottery.layers import Masks
from tf_lottery.model import SparseModel, named_weights
from tf_lottery.model.paths import match_paths
from tf_lottery.snapshot import Snapshot


def weights_of(model, name, network):
    """Returns the weights of a network in the order of a model's weights, with masks applied.

    Args:
        model: A built model, sparse or not, of the network's architecture.
        name: String, the argument's name for messages.
        network: A `Snapshot`, a `Ticket`, a built model, or a dict of paths to weights.

    Returns:
        List of arrays, with `None` for integer weights.

    Raises:
        ValueError: If `network` is none of these or lacks weights of the model.
    """
    weights, masks = _weights_and_masks(model, name, network)
    variables = named_weights(model)
    targets = {path: tuple(variable.shape) for path, variable in variables.items()}
    pairs = match_paths({path: np.shape(value) for path, value in weights.items()}, targets)
    sources = {target: source for source, target in pairs.items()}
    if missing := sorted(set(targets) - set(sources)):
        raise ValueError(
            f"Argument `{name}` must have all weights of the model. Received: no weights for "
            f"{missing}; not matched are {sorted(set(weights) - set(pairs))}"
        )
    own = model.get_masks() if isinstance(model, SparseModel) else {}
    masks = {**own, **{pairs[path]: mask for path, mask in masks.items()}}
    values = []
    for path, variable in variables.items():
        if not keras.backend.is_float_dtype(variable.dtype):
            values.append(None)
            continue
        value = np.asarray(weights[sources[path]])
        values.append(value * masks[path].astype(value.dtype) if path in masks else value)
    return values


def _weights_and_masks(model, name, network):
    """Returns the weights and the masks of a network, as dicts with its own paths."""
    if isinstance(network, Snapshot):
        return network.weights, _snapshot_masks(model, network)
    if isinstance(network, keras.Model) and network.built:
        variables = named_weights(network)
        values = {name: hosts.to_numpy(v).copy() for name, v in variables.items()}
        return values, network.get_masks() if isinstance(network, SparseModel) else {}
    weights = getattr(network, "weights", network)
    if not isinstance(weights, dict) or not weights:
        raise ValueError(
            f"Argument `{name}` must be a `Snapshot`, a `Ticket`, a built model, or a dict of "
            f"paths to weights. Received: {type(network).__name__}"
        )
    return weights, getattr(network, "masks", {})


def _snapshot_masks(model, snapshot):
    """Returns the masks in a snapshot of a model with the same architecture."""
    # The state of other selections is not the masks, even if there is one array per kernel.
    if not isinstance(model, SparseModel) or not isinstance(model.selection, Masks):
        return {}
    arrays, names = snapshot.to_arrays(), list(snapshot.weights)
    masks = [arrays[name] for name in arrays if name.startswith("masks/")]
    own = list(named_weights(model))
    num_masks = len(model.kernels) + len(model.wrapper.companions)
    if (len(masks), len(names)) != (num_masks, len(own)):
        return {}
    # The masks of companions, which come last, follow from those of the kernels.
    return {names[own.index(path)]: m for path, m in zip(model.kernels, masks, strict=False)}
