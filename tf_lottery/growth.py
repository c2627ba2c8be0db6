"""Let a sparse model collect dense gradients, and move its connections."""

import contextlib

import numpy as np
from keras import ops

from tf_lottery import optimizers


def prepare_collecting(model, decay=None, gain=1.0):
    """Gives a model the memory for dense gradients, and stops what collected before.

    Args:
        model: A compiled `SparseModel`.
        decay: Float, or `None` for no gradients; see `GrowthState`. Defaults to `None`.
        gain: Float. Defaults to `1.0`.

    Returns:
        The model's `GrowthState`.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    stop_collecting(model)
    with _scope(model):
        return model.masked.remember_growth(decay, gain)


def start_collecting(model):
    """Starts to collect dense gradients in the memory that was prepared, if it is for some.

    Args:
        model: A compiled `SparseModel`.

    Raises:
        ValueError: If the optimizer accumulates gradients.
    """
    growth = model.masked.growth
    if not growth.gradients:
        return
    optimizers.add_overwritten(model.optimizer, growth.gradients)
    growth.collect(True)
    model.make_train_function(force=True)


def stop_collecting(model):
    """Stops to collect dense gradients and frees those that the next step would replace.

    Args:
        model: A compiled `SparseModel`.
    """
    masked = model.masked
    if masked.growth is None or not masked.growth.gradients:
        return
    optimizers.remove_overwritten(model.optimizer, masked.growth.gradients)
    masked.growth.collect(False)
    if not masked.growth.decay:
        with _scope(model):
            masked.remember_growth()
    # `fit` makes it anew.
    model.train_function = None


def collected_gradients(model):
    """Returns a dict of kernel paths to the collected arrays, or to `None` without gradients.

    Args:
        model: A `SparseModel` with a `GrowthState`.
    """
    paths, gradients = model.masked.paths, model.masked.growth.gradients
    if not gradients:
        return dict.fromkeys(paths)
    return dict(zip(paths, map(ops.convert_to_numpy, gradients), strict=True))


def descent_step(model, gradient):
    """Returns the step that plain gradient descent makes, `-learning_rate * gradient`.

    Args:
        model: A compiled `SparseModel`, whose optimizer has a learning rate.
        gradient: Array, collected while that optimizer trained.
    """
    strategy = _strategy(model)
    # Keras divides the loss by the number of replicas, to sum their gradients.
    replicas = strategy.num_replicas_in_sync if strategy else 1
    scale = replicas / optimizers.loss_scale(model.optimizer)
    learning_rate = float(ops.convert_to_numpy(model.optimizer.learning_rate))
    return -learning_rate * scale * gradient


def move_connections(model, masks, values=None):
    """Sets masks, and lets connections that are new begin with empty optimizer slots.

    Args:
        model: A compiled `SparseModel`.
        masks: Dict of kernel paths to boolean arrays; kernels it leaves out keep theirs.
        values: Dict of kernel paths to arrays, the values of new connections; other entries
            do not matter. Defaults to `None`: zeros.

    Returns:
        Integer, the number of new connections.

    Raises:
        ValueError: If masks do not fit the model.

    Example:

    >>> sparse.optimizer.build(sparse.trainable_variables)
    >>> path, mask = next(iter(sparse.get_masks().items()))
    >>> move_connections(sparse, {path: ~mask})
    72
    """
    # Effective values: what an optimizer did to hidden ones must not come to light.
    before, weights = model.get_masks(), model.get_kernels()
    model.set_masks(masks)
    kernels, trained = model.kernels, model.trainable_variables
    positions = {id(variable): i for i, variable in enumerate(trained)}
    slots = optimizers.slots(model.optimizer, trained)
    num_new = 0
    for path, mask in masks.items():
        new, weight = mask & ~before[path], weights[path] * mask
        num_new += int(np.count_nonzero(new))
        if values is not None:
            weight[new] = values[path][new]
        kernels[path].assign(weight)
        # The kernel of a frozen layer has no slots.
        position = positions.get(id(kernels[path]))
        for kind, slot in ({} if position is None else slots[position]).items():
            start = optimizers.initial_value(model.optimizer, kind, weight)
            slot.assign(ops.where(new, start, slot.value))
    if model.masked.growth is not None:
        model.masked.growth.explore(list(model.get_masks().values()))
    return num_new


def _strategy(model):
    """Returns the `tf.distribute` strategy of a model, `None` on other backends."""
    return getattr(model, "distribute_strategy", None)


def _scope(model):
    """Returns the context in which variables of the model have to be made."""
    strategy = _strategy(model)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
