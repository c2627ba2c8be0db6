"""Private parts of Keras' optimizers."""

import functools

from keras import ops


def trains(optimizer, variable):
    """Returns whether an optimizer was built for a variable.

    Reason: an optimizer has no public list of the variables that it trains.

    Args:
        optimizer: A built Keras optimizer.
        variable: A Keras variable.
    """
    known = optimizer._trainable_variables_indices
    return optimizer._var_key(variable) in known


def exclude_from_weight_decay(optimizer, variables):
    """Adds variables to those that an optimizer excludes from weight decay.

    Reason: the public method would replace the variables that the user excluded.

    Args:
        optimizer: A Keras optimizer.
        variables: List of variables.
    """
    excluded = getattr(optimizer, "_exclude_from_weight_decay", set())
    optimizer._exclude_from_weight_decay = excluded | {optimizer._var_key(v) for v in variables}


def add_overwritten(optimizer, variables, position=None, trained=()):
    """Adds variables with `overwrite_with_gradient=True` to a built optimizer.

    Reason: only `build` registers variables, and it would create all slots a second time. These
    variables need no slots.

    Args:
        optimizer: A built Keras optimizer.
        variables: List of variables.
        position: Integer, the index of the optimizer inside a `MultiOptimizer` that updates
            them. Defaults to `None` for all other optimizers.
        trained: List of all trainable variables of the model that has them, in its order. The
            optimizer may train others, too. Defaults to `()`: they are the last ones.
    """
    known = optimizer._trainable_variables_indices
    new = [v for v in variables if optimizer._var_key(v) not in known]
    for variable in new:
        known[optimizer._var_key(variable)] = len(known)
        if position is not None:
            optimizer._var_to_optimizer_idx[optimizer._var_key(variable)] = position
    for variable in new:
        # On JAX an optimizer gets values in the order of the model's trainable variables.
        place = _place_of(optimizer, variable, trained)
        # With EMA, each is its own average, so that overwriting weights with averages changes
        # nothing.
        for name in _parallel_lists(optimizer):
            found = list(getattr(optimizer, name))
            _set_untracked(optimizer, name, [*found[:place], variable, *found[place:]])


def _parallel_lists(optimizer):
    """Returns the attributes of an optimizer with an entry for every variable that it trains."""
    averages = ["_model_variables_moving_average"] if optimizer.use_ema else []
    return ["_trainable_variables", *averages]


def _set_untracked(optimizer, name, values):
    """Sets a list of an optimizer.

    By an assignment, Keras and TensorFlow would save what is in it with the optimizer; and a list
    that they track and that is changed in place makes `tf.train.Checkpoint` fail.
    """
    vars(optimizer)[name] = values


def _place_of(optimizer, variable, trained):
    """Returns the index after the last variable of the optimizer before this one in `trained`.

    If there is none before it, that of the first one after it, and otherwise the end. Variables
    of the optimizer that are not in `trained`, those of other models, keep their order.
    """
    keys = [optimizer._var_key(other) for other in optimizer._trainable_variables]
    places = {key: i for i, key in enumerate(keys)}
    found, is_before = None, True
    for other in trained:
        if other is variable:
            is_before = False
        elif (place := places.get(optimizer._var_key(other))) is not None:
            if is_before:
                found = place + 1
            elif found is None:
                found = place
    return len(keys) if found is None else found


def remove_overwritten(optimizer, variables):
    """Undoes `add_overwritten`. Reason: as there.

    Args:
        optimizer: A built Keras optimizer.
        variables: The list that was added.
    """
    known = optimizer._trainable_variables_indices
    removed = {optimizer._var_key(v) for v in variables} & set(known)
    keys = [optimizer._var_key(variable) for variable in optimizer._trainable_variables]
    kept = [i for i, key in enumerate(keys) if key not in removed]
    for name in _parallel_lists(optimizer) if removed else ():
        found = getattr(optimizer, name)
        _set_untracked(optimizer, name, [found[i] for i in kept])
    for key in removed:
        del known[key]


def overwrite_at_every_batch(optimizer, decay):
    """Makes an optimizer sum gradients that overwrite variables, with their old values.

    During a step, a variable is `decay` times its value before the step, plus the sum of the
    gradients of the step's batches so far. Reason: Keras forgets the old values, and with gradient
    accumulation takes the maximum over the batches, for float8 training; there is no public way to
    change that.

    Args:
        optimizer: A built Keras optimizer.
        decay: Dict of the ids of variables to floats.
    """
    # The method of the class, even if the instance already has a replacement.
    overwrite = functools.partial(
        type(optimizer)._overwrite_variables_directly_with_gradients, optimizer
    )

    def overwrite_with_sums(gradients, variables):
        is_first = optimizer._iterations % (optimizer.gradient_accumulation_steps or 1) == 0
        others = []
        for gradient, variable in zip(gradients, variables, strict=True):
            if id(variable) in decay:
                share = decay[id(variable)]
                # With a share of 0, values that are not finite become zero too.
                sums = variable.value
                left = share * sums if share else ops.zeros(variable.shape)
                variable.assign(ops.where(is_first, left, sums) + gradient)
            else:
                others.append((gradient, variable))
        return overwrite(*map(list, zip(*others, strict=True))) if others else ([], [])

    vars(optimizer)["_overwrite_variables_directly_with_gradients"] = overwrite_with_sums


def overwrite_as_keras(optimizer):
    """Undoes `overwrite_at_every_batch`. Reason: as there.

    Args:
        optimizer: A Keras optimizer.
    """
    vars(optimizer).pop("_overwrite_variables_directly_with_gradients", None)
