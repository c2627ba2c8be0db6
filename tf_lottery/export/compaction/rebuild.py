"""Builds the smaller model from the analyzed graph of the original one."""

import dataclasses
import itertools

import keras
import numpy as np

from tf_lottery import hosts
from tf_lottery._keras import all_layers
from tf_lottery.export.compaction.copying import (
    config_of,
    from_config,
    is_copyable,
    not_copied,
    unfit_initializers,
)
from tf_lottery.layers.inputs import model_inputs
from tf_lottery.structured.exact_graph import changed_layers
from tf_lottery.structured.graph import as_functional, is_graph
from tf_lottery.structured.rules.base import Edit
from tf_lottery.structured.scan import PASSED_ON, is_tensor


def rebuild(model, graph, masked=()):
    """Builds the smaller model and gives it its weights.

    Args:
        model: A built model.
        graph: Its `Graph`, analyzed.
        masked: Iterable of the variables that have other values now than later, since masks are
            applied to them.

    Returns:
        A `Rebuilt`. The new model is of the same kind as `model`, but a subclassed model becomes
        a functional one, and so does a Sequential model whose inputs are gathered or in which a
        layer is replaced by the calls inside it.

    Raises:
        ValueError: If a layer cannot be copied.
    """
    builder = _Builder(graph, masked)
    smaller = builder.build(model, model.name) if is_graph(model) else builder.follow(model)
    builder.set_weights()
    return Rebuilt(smaller, builder.new, builder.reused, list(builder.replaced.values()))


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """The smaller model.

    Args:
        model: The new model.
        layers: Dict of the ids of the layers of the old model to the new layers.
        reused: List of the layers that both models have, and of the operations that read the same
            variables in both.
        replaced: List of the paths of the layers in whose place it has the calls inside them.
    """

    model: keras.Model
    layers: dict
    reused: list
    replaced: list


class _Builder:
    """Copies layers, smaller where the analysis removed units, and repeats the calls."""

    def __init__(self, graph, masked):
        self.new = {}
        self.reused = []
        self.replaced = {}
        self._graph = graph
        self._masked = {id(variable) for variable in masked}
        # All calls of a layer have the same channels, if they matter to its edit.
        self._nodes = {id(node.operation): node for node in graph.nodes if node.rule}
        # The opened layers in whose place the new model has the calls inside them.
        self._replaced = changed_layers(graph) | {
            id(opened.operation)
            for opened in graph.opened.values()
            if not self._is_reusable(opened.operation) and not is_copyable(opened.operation)
        }
        # The names of the layers and operations of the model that is being built.
        self._names = set()
        self._edits = {}
        self._pairs = []
        self._gathers = {}

    def build(self, model, name):
        function = as_functional(model)
        inputs = self._inputs(model, function)
        if isinstance(model, keras.Sequential) and not any(map(self._needs_calls, model.layers)):
            copies = [self._copy(layer) for layer in model.layers]
            layers = [keras.tree.flatten(inputs)[0], *copies]
            return keras.Sequential(layers, name=name, trainable=model.trainable)
        names, self._names = self._names, {operation.name for operation in function.operations}
        outputs = self._run(self._graph.scan_of(model), keras.tree.flatten(inputs))
        self._names = names
        return keras.Model(inputs, outputs, name=name, trainable=model.trainable)

    def follow(self, model):
        """Returns a functional model of the calls in the `call` of a subclassed one."""
        inputs = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype), model_inputs(model)
        )
        outputs = self._run(self._graph.scan, keras.tree.flatten(inputs), prefix="")
        return keras.Model(inputs, outputs, name=model.name, trainable=model.trainable)

    def set_weights(self):
        for old, new in self._pairs:
            edit = self._edits.get(id(old))
            if edit is None:
                _copy_variables(old, new)
            else:
                for name, value in edit.weights.items():
                    hosts.assign(_attribute(new, name), value)
                    _copy_trainable(_attribute(old, name), _attribute(new, name))

    def _run(self, scan, inputs, prefix=None):
        """Repeats calls with the new layers, and returns their outputs in the old structure.

        Args:
            scan: A `Scan`.
            inputs: List of symbolic tensors for its inputs.
            prefix: String, what the names of the new layers begin with, if the calls were made in
                the `call` of a layer, which passes on whether it is training. Defaults to `None`:
                they are the calls of a functional model.
        """
        tensors = {id(x): y for x, y in zip(scan.inputs, inputs, strict=True)}
        for call in scan.calls:
            args, kwargs = keras.tree.map_structure(
                lambda x: tensors.get(id(x), x), (call.args, call.kwargs)
            )
            if prefix is not None and kwargs.get("training", True) is PASSED_ON:
                del kwargs["training"]
            outputs = keras.tree.flatten(self._call(call, args, kwargs, prefix))
            tensors.update((id(x), y) for x, y in zip(call.outputs, outputs, strict=True))
        return keras.tree.pack_sequence_as(scan.structure, [tensors[id(x)] for x in scan.outputs])

    def _call(self, call, args, kwargs, prefix):
        operation = call.operation
        opened = self._graph.opened.get(id(call))
        if opened is not None and id(operation) in self._replaced:
            inputs = [x for x in keras.tree.flatten([args, kwargs]) if is_tensor(x)]
            self.replaced[id(operation)] = opened.path
            return self._run(opened.scan, inputs, f"{prefix or ''}{operation.name}_")
        self._check_variables(operation, args, kwargs)
        copy = self._copy(operation, prefix)
        positions = self._gathers.get(id(copy))
        if positions is not None:
            args = (keras.ops.take(args[0], positions, axis=-1), *args[1:])
        return copy(*args, **kwargs)

    def _inputs(self, model, function):
        """Returns new input tensors, nested as those of the model."""
        [channels, *_] = self._graph.model_inputs.get(id(model)) or [None]
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

    def _needs_calls(self, layer):
        """Returns whether a layer of a Sequential model cannot just be copied."""
        node = self._nodes.get(id(layer))
        return id(layer) in self._replaced or (node is not None and node.gathered is not None)

    def _copy(self, operation, prefix=None):
        if id(operation) not in self.new:
            name = operation.name if prefix is None else self._new_name(prefix + operation.name)
            self.new[id(operation)] = self._make(operation, name)
        return self.new[id(operation)]

    def _new_name(self, name):
        """Returns the name, with a number if another layer or operation has it."""
        numbered = (f"{name}_{i}" for i in itertools.count(1))
        name = next(x for x in itertools.chain([name], numbered) if x not in self._names)
        self._names.add(name)
        return name

    def _make(self, operation, name):
        if is_graph(operation):
            return self.build(operation, name)
        if type(operation) is keras.layers.TimeDistributed:
            return self._wrap(operation, name, layer=self._copy(operation.layer))
        if type(operation) is keras.layers.Bidirectional:
            return self._wrap_both(operation, name)
        node = self._nodes.get(id(operation))
        edit = node.rule.edit(node) if node and isinstance(operation, keras.Layer) else Edit()
        try:
            config = {**config_of(operation), **edit.config, "name": name}
            if edit.weights:
                config.update(dict.fromkeys(unfit_initializers(operation, config), "zeros"))
            copy = from_config(operation, config)
        except ValueError:
            if edit.config or edit.weights or not self._is_reusable(operation):
                raise
            self.reused.append(operation)
            return operation
        if edit.weights:
            self._edits[id(operation)] = edit
        if node is not None and node.gathered is not None:
            positions = np.flatnonzero(node.gathered[node.inputs[0].kept])
            self._gathers[id(copy)] = positions.tolist()
        if isinstance(operation, keras.Layer):
            self._pairs.append((operation, copy))
        return copy

    def _wrap(self, wrapper, name, **layers):
        """Returns a new wrapper around other layers."""
        config = {**wrapper.get_config(), "name": name, **layers}
        try:
            return type(wrapper)(**config)
        except Exception as error:  # It copies the layer by its config, which may fail.
            raise not_copied(wrapper, f"whose constructor fails: {error}") from error

    def _wrap_both(self, wrapper, name):
        forward, backward = wrapper.forward_layer, wrapper.backward_layer
        new = self._wrap(
            wrapper, name, layer=self._copy(forward), backward_layer=self._copy(backward)
        )
        # The wrapper made a copy of it.
        made = self.new[id(forward)]
        self.new[id(forward)] = new.forward_layer
        self._pairs = [
            (old, new.forward_layer if copy is made else copy) for old, copy in self._pairs
        ]
        return new

    def _check_variables(self, operation, args, kwargs):
        """Notes that both models share the variables that a call has as arguments."""
        values = keras.tree.flatten((args, kwargs))
        variables = [value for value in values if isinstance(value, keras.Variable)]
        if self._any_masked(variables):
            raise not_copied(operation, "which reads a masked weight of another layer")
        if variables:
            self.reused.append(operation)

    def _is_reusable(self, operation):
        return not self._any_masked(getattr(operation, "variables", ()))

    def _any_masked(self, variables):
        return any(id(variable) in self._masked for variable in variables)


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
        raise not_copied(old, "whose copy has other weights")
    for source, target in zip(old.variables, new.variables, strict=True):
        # A copy: on JAX, training donates the buffers of a model, so models must not share any.
        hosts.assign(target, hosts.to_numpy(source).copy())
        _copy_trainable(source, target)
    # `Normalization` computes with copies of its statistics, which this updates.
    if hasattr(new, "finalize_state"):
        new.finalize_state()
