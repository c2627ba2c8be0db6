"""Builds the smaller model from the analyzed graph of the original one."""

import keras
import numpy as np

from tf_lottery._keras import all_layers, output_shape_of_lambda
from tf_lottery.structured.graph import as_functional, is_graph


def rebuild(model, graph):
    """Builds the smaller model and gives it its weights.

    Args:
        model: A built Sequential or functional model.
        graph: Its `Graph`, analyzed.

    Returns:
        Pair of the new model and a dict of the ids of the layers of `model` to the new layers.
        The new model is of the same kind as `model`, but a Sequential model whose inputs are
        gathered becomes a functional one.

    Raises:
        ValueError: If a layer cannot be copied.
    """
    builder = _Builder(graph)
    smaller = builder.build(model)
    builder.set_weights()
    return smaller, builder.new


class _Builder:
    """Copies layers, smaller where the analysis removed units."""

    def __init__(self, graph):
        self.new = {}
        self._graph = graph
        # Rules for layers with several calls never change the layer.
        self._nodes = {id(node.operation): node for node in graph.nodes if node.rule}
        self._edits = {}
        self._pairs = []
        self._gathers = {}

    def build(self, model):
        function = as_functional(model)
        inputs = self._inputs(model, function)
        if isinstance(model, keras.Sequential) and not self._gathers_in(model):
            copies = [self._copy(layer) for layer in model.layers]
            layers = [keras.tree.flatten(inputs)[0], *copies]
            return keras.Sequential(layers, name=model.name, trainable=model.trainable)
        clone = keras.models.clone_model(
            function,
            clone_function=self._copy,
            call_function=self._call,
            input_tensors=inputs,
        )
        return keras.Model(inputs, clone.output, name=model.name, trainable=model.trainable)

    def set_weights(self):
        for old, new in self._pairs:
            edit = self._edits.get(id(old))
            if edit is None:
                _copy_variables(old, new)
            else:
                for name, value in edit.weights.items():
                    _attribute(new, name).assign(value)
                    _copy_trainable(_attribute(old, name), _attribute(new, name))

    def _inputs(self, model, function):
        """Returns new input tensors, nested as those of the model."""
        channels = self._graph.model_inputs.get(id(model))
        layers = {
            id(layer.output): layer
            for layer in function.operations
            if isinstance(layer, keras.layers.InputLayer)
        }
        tensors = []
        for i, x in enumerate(function.inputs):
            config = layers[id(x)].get_config()
            if channels is not None and not channels[i].kept.all():
                config["batch_shape"] = (*x.shape[:-1], int(channels[i].kept.sum()))
            layer = keras.layers.InputLayer.from_config(config)
            layer.trainable = layers[id(x)].trainable
            tensors.append(layer.output)
        return keras.tree.pack_sequence_as(function.input, tensors)

    def _gathers_in(self, model):
        nodes = (self._nodes.get(id(layer)) for layer in model.layers)
        return any(node is not None and node.gathered is not None for node in nodes)

    def _copy(self, operation):
        if id(operation) not in self.new:
            self.new[id(operation)] = self._make(operation)
        return self.new[id(operation)]

    def _make(self, operation):
        if is_graph(operation):
            return self.build(operation)
        node = self._nodes.get(id(operation))
        config = _config(operation)
        if node is not None and isinstance(operation, keras.Layer):
            edit = node.rule.edit(node)
            config.update(edit.config)
            if edit.weights:
                self._edits[id(operation)] = edit
                config.update(dict.fromkeys(_unfit_initializers(operation, config), "zeros"))
        copy = _from_config(operation, config)
        if node is not None and node.gathered is not None:
            positions = np.flatnonzero(node.gathered[node.inputs[0].kept])
            self._gathers[id(copy)] = positions.tolist()
        if isinstance(operation, keras.Layer):
            self._pairs.append((operation, copy))
        return copy

    def _call(self, operation, *args, **kwargs):
        positions = self._gathers.get(id(operation))
        if positions is not None:
            args = (keras.ops.take(args[0], positions, axis=-1), *args[1:])
        return operation(*args, **kwargs)


def _config(operation):
    """Returns an operation's config with functions as objects, so that any function works."""
    try:
        config = operation.get_config()
    except NotImplementedError as error:
        raise _not_copied(operation, "which has no `get_config`") from error
    functions = ("activation", "_initializer", "_regularizer", "_constraint")
    for name in config:
        value = getattr(operation, name, None)
        if name.endswith(functions) and callable(value) and not isinstance(value, keras.Layer):
            config[name] = value
    return config


def _from_config(operation, config):
    if type(operation) is keras.layers.Lambda:
        return _copy_lambda(operation, config)
    try:
        copy = type(operation).from_config(config)
    except Exception as error:  # A layer's own code may fail in any way.
        raise _not_copied(operation, f"whose `from_config` fails: {error}") from error
    # Not every operation takes its name from the config, and names must be unique.
    if copy.name != operation.name:
        copy.name = operation.name
    return copy


def _copy_lambda(layer, config):
    """Copies a `Lambda` layer with its function objects.

    A Python lambda that is read from a config loses the outer variables that it uses.
    """
    functions = {"function": layer.function, "mask": layer.mask, "arguments": layer.arguments}
    if "output_shape" in config:
        functions["output_shape"] = output_shape_of_lambda(layer)
    return keras.layers.Lambda(**{**config, **functions})


def _not_copied(operation, reason):
    return ValueError(
        "Argument `model` must have layers that `get_config` and `from_config` copy with all "
        f"their weights. Received: layer {operation.name!r} of {type(operation).__name__}, {reason}"
    )


def _unfit_initializers(layer, config):
    """Returns the names of config entries with constant initial values of the old shape."""
    return [
        name
        for name in config
        if name.endswith("_initializer")
        and np.ndim(getattr(getattr(layer, name, None), "value", 0))
    ]


def _attribute(layer, path):
    """Returns a weight by the attributes, or by the names of sublayers, that lead to it."""
    *owners, name = path.split(".")
    for owner in owners:
        sublayers = {sublayer.name: sublayer for sublayer in all_layers(layer)}
        layer = getattr(layer, owner, None) or sublayers[owner]
    return getattr(layer, name)


def _copy_trainable(old, new):
    if old is not None and new.trainable != old.trainable:
        new.trainable = old.trainable


def _copy_variables(old, new):
    shapes = [tuple(v.shape) for v in old.variables]
    if shapes != [tuple(v.shape) for v in new.variables]:
        raise _not_copied(old, "whose copy has other weights")
    for source, target in zip(old.variables, new.variables, strict=True):
        # A copy: on JAX, training donates the buffers of a model, so models must not share any.
        target.assign(np.array(keras.ops.convert_to_numpy(source)))
        _copy_trainable(source, target)
    # `Normalization` computes with copies of its statistics, which this updates.
    if hasattr(new, "finalize_state"):
        new.finalize_state()
