"""What the library uses of Keras that is not public, each with the reason.

Everything here was checked with Keras 3.12 to 3.15. `tests/test_keras.py` has a test for each
function, whose failure names what a newer Keras has changed.
"""

from keras.src import backend
from keras.src.backend.common.stateless_scope import get_stateless_scope, in_stateless_scope


def all_layers(layer):
    """Returns the list of a layer and all layers inside it, at any depth, in a fixed order.

    A layer comes before the layers inside it. Reason: Keras has no public way to walk the
    sublayers of an arbitrary layer.

    Args:
        layer: A `keras.Layer`.
    """
    return list(layer._flatten_layers())


def active_scope():
    """Returns the `keras.StatelessScope` that is active, or `None`.

    Reason: the class is public, the question whether one is active is not.
    """
    return get_stateless_scope() if in_stateless_scope() else None


def compute_output_spec(function, *args):
    """Calls a function with symbolic tensors, on shapes alone.

    Reason: the public `keras.Operation.compute_output_spec` hides a model's errors behind its
    own, and that of a layer asks its sublayers for shapes without calling them.

    Args:
        function: Function of `keras.KerasTensor`.
        *args: Its arguments.
    """
    return backend.compute_output_spec(function, *args)


def is_operation_of_ops(operation):
    """Returns whether an operation of a functional graph is a call of `keras.ops`.

    Reason: the classes of these operations are not public; their module tells.

    Args:
        operation: A `keras.Operation`.
    """
    return type(operation).__module__.startswith("keras.src.ops.")


def replace_sublayers(layer, name, sublayers):
    """Sets an attribute of a built layer to a new list of layers, in that order.

    Reason: a built layer is locked and forgets no sublayer. Keras' own `enable_lora` unlocks
    it in the same way.

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
    """Lets a built model know the variables that it has now, on PyTorch.

    Reason: there, a model clears before every step the gradients of the variables that it had
    when it was built. Those of a variable that came later would add up from step to step.

    Args:
        model: A built `keras.Model`.
    """
    if hasattr(model, "_torch_params"):
        model._track_variables()


def scaled_for_replicas(model, loss):
    """Returns a loss that layers added, scaled as `compute_loss` adds it.

    Reason: on TensorFlow, Keras divides it by the number of replicas, and only it knows how.

    Args:
        model: A `keras.Model`.
        loss: Scalar tensor.
    """
    return model._aggregate_additional_loss(loss)


def set_first_epoch(model, epoch):
    """Sets the epoch that a `fit` which has just begun starts with.

    Reason: there is no public way; Keras' own `BackupAndRestore` does the same.

    Args:
        model: A `keras.Model`.
        epoch: Integer, or `None` for the one that `fit` was given.
    """
    model._initial_epoch = epoch


def first_epoch(model):
    """Returns the epoch that `set_first_epoch` or Keras' own callbacks set, or `None`.

    Reason: as there.

    Args:
        model: A `keras.Model`.
    """
    return getattr(model, "_initial_epoch", None)


def add_overwritten(optimizer, variables, position=None):
    """Adds variables with `overwrite_with_gradient=True` to those an optimizer knows.

    Reason: an optimizer knows its variables from when it is built, and `build` would make all
    slots a second time. These need no slots. They have to be the last of the model.

    Args:
        optimizer: A built Keras optimizer.
        variables: List of variables.
        position: Integer, which optimizer inside a `MultiOptimizer` takes them. Defaults to
            `None`: this is none.
    """
    known = optimizer._trainable_variables_indices
    new = [v for v in variables if optimizer._var_key(v) not in known]
    for variable in new:
        known[optimizer._var_key(variable)] = len(known)
        if position is not None:
            optimizer._var_to_optimizer_idx[optimizer._var_key(variable)] = position
    # In place, since an attribute that is set has its variables saved with the optimizer.
    optimizer._trainable_variables.extend(new)
    if optimizer.use_ema:
        # Each is its own average, so that writing averages into weights changes nothing.
        optimizer._model_variables_moving_average.extend(new)


def remove_overwritten(optimizer, variables):
    """Takes back `add_overwritten`, for the same reason.

    Args:
        optimizer: A built Keras optimizer.
        variables: The list that was added.
    """
    known = optimizer._trainable_variables_indices
    removed = [known.pop(optimizer._var_key(v), None) is not None for v in variables]
    if number := sum(removed):
        # They are the last ones.
        del optimizer._trainable_variables[-number:]
        if optimizer.use_ema:
            del optimizer._model_variables_moving_average[-number:]


def exclude_from_weight_decay(optimizer, variables):
    """Adds to the variables that an optimizer does not decay.

    Reason: the public method would replace what the user has excluded.

    Args:
        optimizer: A Keras optimizer.
        variables: List of variables.
    """
    excluded = getattr(optimizer, "_exclude_from_weight_decay", set())
    optimizer._exclude_from_weight_decay = excluded | {optimizer._var_key(v) for v in variables}


def layout_of(variable):
    """Returns how a variable is laid out over devices, or `None`.

    Reason: `keras.Variable` takes a `layout`, but shows none.

    Args:
        variable: A Keras variable.
    """
    return getattr(variable, "_layout", None)


def trains(optimizer, variable):
    """Returns whether an optimizer was built for a variable.

    Reason: an optimizer shows its own variables, and not those that it trains.

    Args:
        optimizer: A built Keras optimizer.
        variable: A Keras variable.
    """
    known = optimizer._trainable_variables_indices
    return optimizer._var_key(variable) in known


def is_state(layer, variable):
    """Returns whether a layer made a variable that is never trained, such as a statistic.

    Reason: a variable shows whether it is trained now, which freezing a layer changes.

    Args:
        layer: The `keras.Layer` that created the variable.
        variable: A Keras variable.
    """
    return any(variable is other for other in layer._non_trainable_variables)
