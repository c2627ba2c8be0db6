"""Private parts of Keras' layers and symbolic tensors."""

import contextlib

from keras.src import backend
from keras.src.backend.common.symbolic_scope import in_symbolic_scope


def all_layers(layer):
    """Returns a list of a layer and all layers inside it, at any depth, in a fixed order.

    A layer comes before the layers inside it. Reason: Keras has no public way to walk the
    sublayers of an arbitrary layer.

    Args:
        layer: A `keras.Layer`.
    """
    return list(layer._flatten_layers())


def is_state(layer, variable):
    """Returns whether a variable is non-trainable state of its layer, such as a statistic.

    Reason: the attribute `trainable` of a variable also changes when its layer is frozen.

    Args:
        layer: The `keras.Layer` that created the variable.
        variable: A Keras variable.
    """
    return any(variable is other for other in layer._non_trainable_variables)


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


def is_symbolic():
    """Returns whether a layer is called symbolically, only to infer its output shapes.

    Reason: inside `call`, the inputs are tensors of the backend and do not show it.
    """
    return in_symbolic_scope()


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


@contextlib.contextmanager
def no_rematerialization(layer):
    """Makes a layer and its sublayers keep their activations for the gradients in the block.

    Reason: a layer created in a `keras.RematScope` computes its activations a second time instead,
    and there is no public way to switch that off.

    Args:
        layer: A `keras.Layer`.
    """
    modes = [(sub, sub._remat_mode) for sub in all_layers(layer) if sub._remat_mode is not None]
    for sublayer, _ in modes:
        # Set in this way, Keras does not track the value as state of the layer.
        vars(sublayer)["_remat_mode"] = None
    try:
        yield
    finally:
        for sublayer, mode in modes:
            vars(sublayer)["_remat_mode"] = mode


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
