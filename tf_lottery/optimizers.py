"""Access to the variables of Keras optimizers: slots, steps, rates, and what they train."""

import collections

from keras import ops

from tf_lottery import _keras, hosts


def slots(optimizer, variables):
    """Finds the slots of an optimizer: its variables that belong to weights of a model.

    Slots are momentum, second moments, moving averages and so on. Optimizers inside
    `LossScaleOptimizer` and `MultiOptimizer` are included. Slots whose shape differs from that
    of the weight, such as the factors of Adafactor, are left out.

    Args:
        optimizer: A built Keras optimizer.
        variables: List of all trainable variables of the model.

    Returns:
        List with a dict for every variable, from kinds of slots, such as `"momentum"`, to the
        slots.

    Example:

    >>> optimizer, weights = keras.optimizers.Adam(), model.trainable_variables[:2]
    >>> optimizer.build(weights)
    >>> [sorted(found) for found in slots(optimizer, weights)]
    [['momentum', 'velocity'], ['momentum', 'velocity']]
    """
    # The name of a slot begins with the path of its weight. If several weights have the same
    # path, their slots come in the order of the weights.
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


def clear_slots(optimizer, trainable, variables, places=None):
    """Resets the slots of some weights to their initial values; see `initial_value`.

    Args:
        optimizer: A built Keras optimizer.
        trainable: List of all trainable variables of the model.
        variables: List of the variables whose slots are reset. Those that are not trainable have
            none. A variable can occur several times, with other places.
        places: List of boolean arrays with the shapes of `variables`, true where slots are reset.
            Defaults to `None`: everywhere.
    """
    places = [True] * len(variables) if places is None else places
    chosen = {}
    for variable, place in zip(variables, places, strict=True):
        chosen[id(variable)] = chosen.get(id(variable), False) | place
    for variable, found in zip(trainable, slots(optimizer, trainable), strict=True):
        for kind, slot in found.items() if id(variable) in chosen else ():
            start = initial_value(optimizer, kind, variable)
            # Read only for slots that copy the weight: several hosts gather it for that.
            start = hosts.to_numpy(variable) if start is variable else start
            slot.assign(ops.where(chosen[id(variable)], start, slot.value))


def start_averages(optimizer, trainable):
    """Sets the moving averages of an optimizer with `use_ema` to the weights.

    Keras initializes averages only at iteration 0, so they must be set after rewinding to a
    later step.

    Args:
        optimizer: A built Keras optimizer.
        trainable: List of all trainable variables of the model.
    """
    for variable, found in zip(trainable, slots(optimizer, trainable), strict=True):
        if "average" in found:
            # A copy: on JAX the two would share a buffer, which a step cannot donate twice.
            hosts.assign(found["average"], hosts.to_numpy(variable).copy())


def add_overwritten(optimizer, variables, trained=(), decay=0.0):
    """Adds variables to an optimizer that it overwrites with their gradients.

    A step makes a variable `decay * variable + gradient`. If the optimizer accumulates gradients,
    theirs are summed over the batches of a step.

    Args:
        optimizer: A built Keras optimizer.
        variables: List of variables with `overwrite_with_gradient=True`.
        trained: List of all trainable variables of the model that has them, in its order. The
            optimizer may train others, too. Defaults to `()`: `variables` are the last ones.
        decay: Float, the factor of a variable's old value. Defaults to `0.0`.
    """
    for part in _parts(optimizer):
        position = _first_built(part) if hasattr(part, "optimizers") else None
        _keras.add_overwritten(part, variables, position, trained)
        if decay or part.gradient_accumulation_steps:
            _keras.overwrite_at_every_batch(part, {id(v): decay for v in variables})


def remove_overwritten(optimizer, variables):
    """Undoes `add_overwritten`.

    Args:
        optimizer: A built Keras optimizer.
        variables: The list that was added.
    """
    for part in _parts(optimizer):
        _keras.remove_overwritten(part, variables)
        _keras.overwrite_as_keras(part)


def build_optimizer(optimizer, model):
    """Creates the variables of a model's optimizer, unless they exist.

    Args:
        optimizer: A Keras optimizer.
        model: The `keras.Model` that is fitted.

    Raises:
        ValueError: If the optimizer is not built and is not that of `model`. It may train other
            models as well, and can be built only once, for all variables.
    """
    if optimizer.built:
        return
    if optimizer is not getattr(model, "optimizer", None):
        raise ValueError(
            "Argument `optimizer` must be built with all variables that it trains, if the model "
            f"{model.name!r} is not compiled with it: call "
            "`optimizer.build(model.trainable_variables)` before, with the whole model that it "
            f"trains. Received: {optimizer.name!r}, which is not built"
        )
    optimizer.build(model.trainable_variables)


def inner_optimizers(optimizer):
    """Returns a list of all optimizers inside an optimizer, such as a `LossScaleOptimizer`.

    Args:
        optimizer: A Keras optimizer.
    """
    if hasattr(optimizer, "inner_optimizer"):
        return [optimizer.inner_optimizer, *inner_optimizers(optimizer.inner_optimizer)]
    return list(getattr(optimizer, "optimizers", []))


def accumulation_steps(optimizer):
    """Returns the number of batches per optimizer step, 1 without gradient accumulation.

    Args:
        optimizer: A built Keras optimizer.
    """
    return max(part.gradient_accumulation_steps or 1 for part in _parts(optimizer))


def exclude_from_weight_decay(optimizer, variables):
    """Excludes variables from the weight decay of an optimizer and the optimizers inside it.

    Args:
        optimizer: A Keras optimizer.
        variables: List of variables.
    """
    for part in [optimizer, *inner_optimizers(optimizer)]:
        _keras.exclude_from_weight_decay(part, variables)


def step_variables(optimizer):
    """Returns the iteration counters of an optimizer and those inside it, the innermost last.

    Args:
        optimizer: A built Keras optimizer.
    """
    return [variable for variable in optimizer.variables if variable.name == "iteration"]


def training_step(optimizer):
    """Returns the number of training steps an optimizer has made.

    Every batch counts, also if it only accumulates gradients, except batches that a loss-scale
    optimizer skipped. Learning-rate schedules use this step.

    Args:
        optimizer: A built Keras optimizer.
    """
    return int(ops.convert_to_numpy(step_variables(optimizer)[-1]))


def rate_variables(optimizer):
    """Returns the learning rates of an optimizer that are variables, not schedules.

    Args:
        optimizer: A built Keras optimizer.
    """
    return [variable for variable in optimizer.variables if variable.name == "learning_rate"]


def learning_rates(optimizer):
    """Returns a list of the learning rates of an optimizer, without those that are schedules.

    Args:
        optimizer: A built Keras optimizer.
    """
    return [float(ops.convert_to_numpy(variable)) for variable in rate_variables(optimizer)]


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
    """Returns the initial value of a slot: zero, a constant of the optimizer, or the weight.

    Args:
        optimizer: A Keras optimizer.
        kind: String, as in `slots`.
        weight: The weight that the slot belongs to.
    """
    parts = [optimizer, *inner_optimizers(optimizer)]
    # Schedule-free optimizers name a copy of the weights "momentum".
    schedule_free = any(type(part).__name__.startswith("ScheduleFree") for part in parts)
    if kind == "average" or (schedule_free and kind == "momentum"):
        return weight
    # Adagrad and Ftrl divide by their accumulators, which therefore start above zero.
    if kind != "accumulator":
        return 0.0
    return max(getattr(part, "initial_accumulator_value", 0.0) for part in parts)


def _first_built(multi_optimizer):
    return [part.built for part in multi_optimizer.optimizers].index(True)


def _parts(optimizer):
    """Returns the nested optimizers to which an overwritten variable must be added."""
    parts = [optimizer]
    if hasattr(optimizer, "inner_optimizer"):
        parts += _parts(optimizer.inner_optimizer)
    if hasattr(optimizer, "optimizers"):
        parts.append(optimizer.optimizers[_first_built(optimizer)])
    return parts
