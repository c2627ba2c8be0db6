"""Collects dense gradients of a sparse model, and moves its connections.

A callback calls `prepare_collecting` and `start_collecting` when training begins, reads
`collected_gradients` where an update is due, gives new masks, as `tfl.sparsity.drop_and_grow`
makes them, to `move_connections`, and calls `stop_collecting` at the end. Its attribute
`training` is the first argument of most of these functions.
"""

import contextlib

import numpy as np
from keras import ops

from tf_lottery import hosts, optimizers
from tf_lottery.layers import GrowthMemory, Masks


def prepare_collecting(training, decay=None, gain=1.0):
    """Stops a running collection, and gives the model a `GrowthMemory` with these settings.

    An existing memory with the same settings is kept. The record of weights that have ever been
    active is kept in any case.

    Args:
        training: A `Training` of a `SparseModel`.
        decay: Float, or `None` for no gradients; see `GrowthMemory`. Defaults to `None`.
        gain: Float; see `GrowthMemory`. Defaults to `1.0`.

    Raises:
        ValueError: If the model has no masks, but gates.
    """
    model = training.model
    if not isinstance(model.selection, Masks):
        raise ValueError(
            "Argument `model` must have masks for a method that grows connections; make it with "
            "`tfl.sparsify(model, sparsity)`. Received: a model with "
            f"{type(model.selection).__name__}"
        )
    training.build_optimizer()
    stop_collecting(training)
    _set_memory(training, decay, gain)


def start_collecting(training):
    """Starts to collect dense gradients, if the prepared memory has variables for them.

    Args:
        training: A `Training` of a `SparseModel`.

    Raises:
        ValueError: If another method already uses the memory.
    """
    model, memory = training.model, training.model.growth
    if memory.in_use:
        raise ValueError(
            "Argument `callbacks` must have only one method that moves connections per model. "
            f"Received: two of them for the model {model.name!r}"
        )
    memory.in_use = True
    if memory.gradients:
        memory.collect(True)
        trained = training.trained_variables
        optimizers.add_overwritten(training.optimizer, memory.gradients, trained, memory.decay)
        memory.functions = training.switch_function(memory.functions)


def stop_collecting(training):
    """Stops collecting dense gradients. The next training can start again at once.

    Args:
        training: A `Training` of a `SparseModel`.
    """
    memory = training.model.growth
    if memory is None:
        return
    memory.in_use = False
    if not memory.is_collecting:
        return
    optimizers.remove_overwritten(training.optimizer, memory.gradients)
    memory.collect(False)
    training.switch_back(memory.functions)


def _set_memory(training, decay=None, gain=1.0):
    """Gives a model a `GrowthMemory` with these settings, unless it already has one."""
    model, old = training.model, training.model.growth
    steps = 1 if decay is None else optimizers.accumulation_steps(training.optimizer)
    with _scope(training.fitted):
        if old is None or (old.decay, old.gain, old.steps) != (decay, gain, steps):
            new = GrowthMemory(decay, gain, steps)
            if old is not None:
                model.remove_part(old)
            model.add_part(new)
            if old is not None:
                new.explore([hosts.to_numpy(explored) for explored in old.explored])
        model.growth.explore(list(model.get_masks().values()))


def collected_gradients(model):
    """Returns a dict of kernel names to gradient arrays, or to `None` if none are collected.

    Args:
        model: A `SparseModel` with a `GrowthMemory`.
    """
    names, memory = list(model.kernels), model.growth
    if not memory.is_collecting:
        return dict.fromkeys(names)
    return dict(zip(names, map(hosts.to_numpy, memory.gradients), strict=True))


def descent_step(training, gradient):
    """Returns the update of plain gradient descent, `-learning_rate * gradient`.

    Args:
        training: A `Training` whose optimizer has a learning rate.
        gradient: Array, collected during training with this optimizer.
    """
    strategy, optimizer = _strategy(training.fitted), training.optimizer
    # Keras divides the loss by the number of replicas, since their gradients are summed.
    replicas = strategy.num_replicas_in_sync if strategy else 1
    scale = replicas / optimizers.loss_scale(optimizer)
    learning_rate = float(ops.convert_to_numpy(optimizer.learning_rate))
    return -learning_rate * scale * gradient


def move_connections(training, masks, values=None):
    """Sets masks, and resets the values and optimizer slots of new and of pruned connections.

    New channels of groups also get values for their biases and normalization, the means over the
    other channels.

    Args:
        training: A `Training` of a `SparseModel`.
        masks: Dict of kernel paths to boolean arrays. Other kernels keep their masks.
        values: Dict of kernel paths to arrays, the values of new connections. Other entries are
            ignored. Defaults to `None`: zeros.

    Returns:
        Integer, the number of new connections.

    Raises:
        ValueError: If the masks do not fit the model.

    Example:

    >>> from tf_lottery.training import Training
    >>> sparse.optimizer.build(sparse.trainable_variables)
    >>> path, mask = next(iter(sparse.get_masks().items()))
    >>> move_connections(Training.of(sparse), {path: ~mask})
    72
    """
    model = training.model
    # `get_kernels` gives zeros for pruned weights, whose stored values an optimizer may have moved.
    before, weights = model.get_masks(), model.get_kernels()
    channels = model.kept_channels()
    model.set_masks(masks)
    kernels, num_new = model.kernels, 0
    for path, mask in masks.items():
        new, weight = mask & ~before[path], weights[path] * mask
        num_new += int(np.count_nonzero(new))
        if values is not None:
            weight[new] = values[path][new]
        hosts.assign(kernels[path], weight)
    optimizers.clear_slots(
        training.optimizer,
        training.trained_variables,
        [kernels[path] for path in masks],
        [~(mask & before[path]) for path, mask in masks.items()],
    )
    _start_channels(training, channels)
    if model.growth is not None:
        model.growth.explore(list(model.get_masks().values()))
    return num_new


def new_channel_values(model, rng):
    """Returns random weights for channels that grow.

    Behind a ReLU, a channel of zeros has no gradient. Therefore new channels start with random
    weights, with the standard deviation of the weights that are kept in their kernel.

    Args:
        model: A `SparseModel`.
        rng: `numpy.random.Generator`.

    Returns:
        Dict of kernel names to arrays.

    Example:

    >>> values = new_channel_values(sparse, np.random.default_rng(0))
    >>> {path: array.shape for path, array in values.items()}
    {'net/hidden/kernel': (8, 10), 'net/output/kernel': (10, 2)}
    """
    masks = model.get_masks()
    return {
        path: rng.normal(0.0, np.std(kernel[masks[path]]), kernel.shape).astype(kernel.dtype)
        for path, kernel in model.get_kernels().items()
    }


def _start_channels(training, before):
    """Gives new channels the mean values of those that lived before, and fresh slots.

    These are the biases and scales that go with a channel, and moving variances, which have fallen
    to 0 while the channel was dead. Weights that multiply the channel keep their values.

    Args:
        training: A `Training` of a `SparseModel`.
        before: What `SparseModel.kept_channels` returned before the masks changed.
    """
    model, variables, places = training.model, [], []
    members, after = model.wrapper.named_members(), model.kept_channels()
    for group in model.groups:
        old, new = before[group.name], after[group.name] & ~before[group.name]
        if not new.any() or not old.any():
            continue
        statistics = [m for m in group.readers if len(members[m.key].shape) == 1]
        for member in (*group.companions, *statistics):
            variable = members[member.key]
            values = hosts.to_numpy(variable).copy()
            channels = np.moveaxis(values, member.axis, 0)
            channels[member.positions[new]] = channels[member.positions[old]].mean(axis=0)
            variable.assign(values)
            is_new = np.zeros(values.shape, bool)
            np.moveaxis(is_new, member.axis, 0)[member.positions[new]] = True
            variables.append(variable)
            places.append(is_new)
    optimizers.clear_slots(training.optimizer, training.trained_variables, variables, places)


def _strategy(model):
    """Returns the `tf.distribute` strategy of a model, `None` on other backends."""
    return getattr(model, "distribute_strategy", None)


def _scope(model):
    """Returns the context in which variables of the model must be created."""
    strategy = _strategy(model)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
