"""All uses of private parts of Keras, each with the reason.

Everything here was checked with Keras 3.12 to 3.15. `tests/test_keras.py` has a test for each
function; if a newer Keras breaks one, the failing test names it.
"""

import contextlib
import functools
import random

import numpy as np
from keras import ops
from keras.src import backend
from keras.src.backend.common import global_state
from keras.src.backend.common.stateless_scope import get_stateless_scope, in_stateless_scope
from keras.src.backend.common.symbolic_scope import in_symbolic_scope


def all_layers(layer):
    """Returns a list of a layer and all layers inside it, at any depth, in a fixed order.

    A layer comes before the layers inside it. Reason: Keras has no public way to walk the
    sublayers of an arbitrary layer.

    Args:
        layer: A `keras.Layer`.
    """
    return list(layer._flatten_layers())


def active_scope():
    """Returns the `keras.StatelessScope` that is active, or `None`.

    Reason: the class is public, but there is no public way to get the active scope.
    """
    return get_stateless_scope() if in_stateless_scope() else None


def is_symbolic():
    """Returns whether a layer is called symbolically, only to infer its output shapes.

    Reason: inside `call`, the inputs are tensors of the backend and do not show it.
    """
    return in_symbolic_scope()


def is_stored(variable):
    """Returns whether a variable has a value.

    Reason: on JAX, Keras removes the value during training, and reading it then fails.

    Args:
        variable: A Keras variable.
    """
    return variable._value is not None


@contextlib.contextmanager
def stored_values():
    """Makes variables return their stored values, even while a function is traced.

    Reason: inside a `keras.StatelessScope`, a variable has the value of the scope, a tracer on
    JAX, and there is no public way to leave the scope.
    """
    scope = global_state.get_global_attribute("stateless_scope")
    global_state.set_global_attribute("stateless_scope", None)
    try:
        with _eager_scope():
            yield
    finally:
        global_state.set_global_attribute("stateless_scope", scope)


def _eager_scope():
    if backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.init_scope()


@contextlib.contextmanager
def kept_random_state():
    """Restores the global random states of Keras, NumPy and Python after the block.

    Reason: there is no public way to read the state that `keras.utils.set_random_seed` sets.
    """
    name = "global_seed_generator"
    generator = global_state.get_global_attribute(name)
    value = None if generator is None else ops.convert_to_numpy(generator.state).copy()
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        # If there was no generator, the next use creates one.
        global_state.set_global_attribute(name, generator)
        if generator is not None:
            generator.state.assign(value)


def compute_output_spec(function, *args):
    """Calls a function with symbolic tensors and returns its symbolic outputs.

    Reason: the public `keras.Operation.compute_output_spec` replaces a model's errors by its
    own, and that of a layer gets shapes from its sublayers without calling them.

    Args:
        function: Function of `keras.KerasTensor`.
        *args: Its arguments.
    """
    return backend.compute_output_spec(function, *args)


@contextlib.contextmanager
def kept_nodes(layer):
    """Forgets the symbolic calls of a layer and its sublayers that are made in the block.

    Reason: a layer records every symbolic call in a private list. The calls of a subclassed
    model's layers would stay there, and Keras would take the layers for shared ones.

    Args:
        layer: A `keras.Layer`.
    """
    lists = [(sub._inbound_nodes, sub._outbound_nodes) for sub in all_layers(layer)]
    lengths = [[len(nodes) for nodes in pair] for pair in lists]
    try:
        yield
    finally:
        for pair, before in zip(lists, lengths, strict=True):
            for nodes, length in zip(pair, before, strict=True):
                del nodes[length:]


def is_operation_of_ops(operation):
    """Returns whether an operation of a functional graph is a call of `keras.ops`.

    Reason: the classes of these operations are not public; they are recognized by their module.

    Args:
        operation: A `keras.Operation`.
    """
    return type(operation).__module__.startswith("keras.src.ops.")


def output_shape_of_lambda(layer):
    """Returns the argument `output_shape` that a `Lambda` layer was created with.

    Reason: the config also has it, but with functions serialized as text.

    Args:
        layer: A `keras.layers.Lambda`.
    """
    return layer._output_shape


def replace_sublayers(layer, name, sublayers):
    """Sets an attribute of a built layer to a new list of layers, in that order.

    Reason: a built layer is locked, and its tracker keeps replaced sublayers. Keras' own
    `enable_lora` unlocks a layer in the same way.

    Args:
        layer: A `keras.Layer`.
        name: String, the attribute, which holds a list of layers.
        sublayers: List of layers.
    """
    tracker = layer._tracker
    was_locked = tracker.locked
    tracker.unlock()
    try:
        for sublayer in [*getattr(layer, name), *sublayers]:
            tracker.untrack(sublayer)
        setattr(layer, name, list(sublayers))
    finally:
        if was_locked:
            tracker.lock()


def track_parameters(model):
    """Registers variables that were added to a model after it was built, on PyTorch.

    Reason: before every step, Keras clears only the gradients of registered variables. The
    gradients of others would add up from step to step.

    Args:
        model: A built `keras.Model`.
    """
    if hasattr(model, "_torch_params"):
        model._track_variables()


def scaled_for_replicas(model, loss):
    """Returns a loss that layers added, scaled as Keras' `compute_loss` scales it.

    Reason: on TensorFlow, Keras divides it by the number of replicas in a private method.

    Args:
        model: A `keras.Model`.
        loss: Scalar tensor.
    """
    return model._aggregate_additional_loss(loss)


def set_first_epoch(model, epoch):
    """Sets the first epoch of a `fit` that has just begun.

    Reason: there is no public way; Keras' own `BackupAndRestore` does the same.

    Args:
        model: A `keras.Model`.
        epoch: Integer, or `None` for the `initial_epoch` of `fit`.
    """
    model._initial_epoch = epoch


def first_epoch(model):
    """Returns the epoch that `set_first_epoch` or Keras' own callbacks set, or `None`.

    Reason: there is no public way.

    Args:
        model: A `keras.Model`.
    """
    return getattr(model, "_initial_epoch", None)


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
        # In place: setting the attribute would track the variables and save them with the
        # optimizer.
        optimizer._trainable_variables.insert(place, variable)
        if optimizer.use_ema:
            # Each is its own average, so that overwriting weights with averages changes nothing.
            optimizer._model_variables_moving_average.insert(place, variable)


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
    for i in reversed([i for i, key in enumerate(keys) if key in removed]):
        # In place, as above.
        del optimizer._trainable_variables[i]
        if optimizer.use_ema:
            del optimizer._model_variables_moving_average[i]
    for key in removed:
        del known[key]


def overwrite_at_every_batch(optimizer, decay):
    """Makes an optimizer with gradient accumulation sum gradients that overwrite variables.

    During a step, a variable is `decay` times its value before the step, plus the sum of the
    gradients of the step's batches so far. Reason: Keras overwrites such variables with the
    maximum over the batches, for float8 training, and there is no public way to change that.

    Args:
        optimizer: A built Keras optimizer with `gradient_accumulation_steps`.
        decay: Dict of the ids of variables to floats.
    """
    # The method of the class, even if the instance already has a replacement.
    overwrite = functools.partial(
        type(optimizer)._overwrite_variables_directly_with_gradients, optimizer
    )

    def overwrite_with_sums(gradients, variables):
        is_first = optimizer._iterations % optimizer.gradient_accumulation_steps == 0
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


def exclude_from_weight_decay(optimizer, variables):
    """Adds variables to those that an optimizer excludes from weight decay.

    Reason: the public method would replace the variables that the user excluded.

    Args:
        optimizer: A Keras optimizer.
        variables: List of variables.
    """
    excluded = getattr(optimizer, "_exclude_from_weight_decay", set())
    optimizer._exclude_from_weight_decay = excluded | {optimizer._var_key(v) for v in variables}


def layout_of(variable):
    """Returns the sharding layout of a variable over devices, or `None`.

    Reason: `keras.Variable` takes the argument `layout`, but has no public attribute for it.

    Args:
        variable: A Keras variable.
    """
    return getattr(variable, "_layout", None)


def trains(optimizer, variable):
    """Returns whether an optimizer was built for a variable.

    Reason: an optimizer has no public list of the variables that it trains.

    Args:
        optimizer: A built Keras optimizer.
        variable: A Keras variable.
    """
    known = optimizer._trainable_variables_indices
    return optimizer._var_key(variable) in known


def is_state(layer, variable):
    """Returns whether a variable is non-trainable state of its layer, such as a statistic.

    Reason: the attribute `trainable` of a variable also changes when its layer is frozen.

    Args:
        layer: The `keras.Layer` that created the variable.
        variable: A Keras variable.
    """
    return any(variable is other for other in layer._non_trainable_variables)
