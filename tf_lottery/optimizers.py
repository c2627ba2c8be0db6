"""What lies inside Keras optimizers: the slots of a variable, and which variables they know."""

import collections

import numpy as np
from keras import ops

from tf_lottery import _keras


def slots(optimizer, variables):
    """Finds the optimizer's variables that belong to weights of a model.

    Momentum, second moments, moving averages and so on, of every optimizer inside
    `LossScaleOptimizer` and `MultiOptimizer`. Slots of another shape than the weight, such
    as the factors of Adafactor, are left out.

    Args:
        optimizer: A built Keras optimizer.
        variables: List of all trainable variables of the model.

    Returns:
        List, for every variable a dict of the slot's kind, such as `"momentum"`, to its
        variable.

    Example:

    >>> optimizer, weights = keras.optimizers.Adam(), model.trainable_variables[:2]
    >>> optimizer.build(weights)
    >>> [sorted(found) for found in slots(optimizer, weights)]
    [['momentum', 'velocity'], ['momentum', 'velocity']]
    """
    # A slot is called after the path of its weight. Several weights can have one path;
    # their slots come in the order of the weights.
    positions = collections.defaultdict(list)
    for i, variable in enumerate(variables):
        positions[variable.path.replace("/", "_")].append(i)
    found = [{} for _ in variables]
    seen = collections.Counter()
    for slot in optimizer.variables:
        prefixes = [path for path in positions if slot.name.startswith(f"{path}_")]
        if not prefixes:
            continue
        path = max(prefixes, key=len)
        kind = slot.name.removeprefix(f"{path}_")
        position = positions[path][seen[slot.name] % len(positions[path])]
        seen[slot.name] += 1
        if slot.shape == variables[position].shape:
            found[position][kind] = slot
    return found


def clear_slots(optimizer, trainable, variables):
    """Sets the slots of some weights to what they begin with: zero, or a copy of the weight.

    Args:
        optimizer: A built Keras optimizer.
        trainable: List of all trainable variables of the model.
        variables: List of those whose slots are cleared.
    """
    chosen = {id(variable) for variable in variables}
    for variable, found in zip(trainable, slots(optimizer, trainable), strict=True):
        for kind, slot in found.items() if id(variable) in chosen else ():
            # By value: on JAX the two would share a buffer, which a step cannot donate twice.
            weight = ops.convert_to_numpy(variable).copy()
            start = initial_value(optimizer, kind, weight)
            slot.assign(np.broadcast_to(start, slot.shape))


def add_overwritten(optimizer, variables):
    """Makes an optimizer accept variables that it overwrites with their gradients.

    They have to be the last of the model.

    Args:
        optimizer: A built Keras optimizer.
        variables: List of variables with `overwrite_with_gradient=True`.

    Raises:
        ValueError: If an optimizer accumulates gradients, which Keras does by the maximum
            for such variables.
    """
    for part in _parts(optimizer):
        if part.gradient_accumulation_steps:
            raise ValueError(
                "Dense gradients cannot be collected with `gradient_accumulation_steps` in the "
                "optimizer. Use the `grad_accumulation` of `RigL`, or `SET`, which needs no "
                "gradients. Received: gradient_accumulation_steps="
                f"{part.gradient_accumulation_steps}"
            )
    for part in _parts(optimizer):
        position = _first_built(part) if hasattr(part, "optimizers") else None
        _keras.add_overwritten(part, variables, position)


def remove_overwritten(optimizer, variables):
    """Takes back `add_overwritten`.

    Args:
        optimizer: A built Keras optimizer.
        variables: The list that was added.
    """
    for part in _parts(optimizer):
        _keras.remove_overwritten(part, variables)


def exclude_from_weight_decay(optimizer, variables):
    """Keeps variables out of the weight decay of an optimizer and of those inside it.

    Args:
        optimizer: A Keras optimizer.
        variables: List of variables.
    """
    for part in [optimizer, *_inner(optimizer)]:
        _keras.exclude_from_weight_decay(part, variables)


def step_variables(optimizer):
    """Returns the iteration counters, the one of the innermost optimizer last.

    Args:
        optimizer: A built Keras optimizer.
    """
    return [variable for variable in optimizer.variables if variable.name == "iteration"]


def loss_scale(optimizer):
    """Returns the factor by which the optimizer scales the loss, as a float.

    Args:
        optimizer: A built Keras optimizer.
    """
    factor = getattr(optimizer, "dynamic_scale", None)
    if factor is None:
        factor = optimizer.loss_scale_factor
    return 1.0 if factor is None else float(ops.convert_to_numpy(factor))


def initial_value(optimizer, kind, weight):
    """Returns what a slot begins with: zero, a constant of the optimizer, or the weight.

    Args:
        optimizer: A Keras optimizer.
        kind: String, as in `slots`.
        weight: Array, the value of the weight that the slot belongs to.
    """
    parts = [optimizer, *_inner(optimizer)]
    # Where schedule-free optimizers look for their next point is called momentum, too.
    schedule_free = any(type(part).__name__.startswith("ScheduleFree") for part in parts)
    if kind == "average" or (schedule_free and kind == "momentum"):
        return weight
    # Adagrad and Ftrl divide by their accumulators, and begin them above zero.
    if kind != "accumulator":
        return 0.0
    return max(getattr(part, "initial_accumulator_value", 0.0) for part in parts)


def _first_built(multi_optimizer):
    return [part.built for part in multi_optimizer.optimizers].index(True)


def _inner(optimizer):
    """Returns all optimizers inside one."""
    if hasattr(optimizer, "inner_optimizer"):
        return [optimizer.inner_optimizer, *_inner(optimizer.inner_optimizer)]
    return list(getattr(optimizer, "optimizers", []))


def _parts(optimizer):
    """Returns the optimizers, one in the other, that have to know an overwritten variable."""
    parts = [optimizer]
    if hasattr(optimizer, "inner_optimizer"):
        parts += _parts(optimizer.inner_optimizer)
    if hasattr(optimizer, "optimizers"):
        parts.append(optimizer.optimizers[_first_built(optimizer)])
    return parts
