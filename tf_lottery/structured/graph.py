"""The graph of a functional or Sequential model: its layer calls and the channels between."""

import collections
import dataclasses

import keras
import numpy as np


@dataclasses.dataclass(eq=False)
class Channels:
    """A tensor, and properties of the channels along its last axis.

    Args:
        shape: Tuple, the tensor's shape, batch included.
        dtype: String, the tensor's data type.
    """

    shape: tuple
    dtype: str

    def __post_init__(self):
        # Integers are indices into tables, and tensors of rank 1 have no channels.
        has_channels = len(self.shape) >= 2 and keras.backend.is_float_dtype(self.dtype)
        self.width = (self.shape[-1] or 0) if has_channels else 0
        # The channel's value if it is the same at all positions of all examples, else NaN.
        self.constants = np.full(self.width, np.nan)
        # Whether any output depends on the channel.
        self.needed = np.zeros(self.width, bool)
        # Whether the smaller model has the channel. A kept channel that is not needed may have
        # any finite value.
        self.kept = np.zeros(self.width, bool)
        # Whether it is tied to an input channel of the model, which cannot be removed.
        self.given = np.zeros(self.width, bool)


@dataclasses.dataclass(eq=False)
class Node:
    """One call of a layer or operation.

    Args:
        operation: The `keras.Layer` or `keras.Operation`.
        path: String, its name, preceded by the names of the models around it.
        inputs: List of `Channels`, the first argument's tensors.
        extras: List of `Channels`, the tensors of the other arguments, for example masks.
        outputs: List of `Channels`.
        is_shared: Whether the operation is called more than once.
        is_plain: Whether the inputs are only tensors, and no argument, such as
            `training=True`, is true.
        rule: The `Rule` for operations of its kind, `None` if it is left alone. Defaults to
            `None`.
        gathered: Boolean array of the input channels to select first. Defaults to `None`:
            all of them.
    """

    operation: keras.Operation
    path: str
    inputs: list
    extras: list
    outputs: list
    is_shared: bool
    is_plain: bool
    rule: object = None
    gathered: np.ndarray | None = None


class Graph:
    """The calls of a model in order, those inside nested models included.

    A nested model that is called several times, or with other arguments besides its inputs, is
    a single node.

    Args:
        model: A built `keras.Sequential` or functional model.
    """

    def __init__(self, model):
        self.nodes = []
        # The input channels of every model whose calls are listed, by the model's id.
        self.model_inputs = {}
        self._scans = {}
        self._counts = collections.Counter()
        self._scan(model)
        self.inputs = [Channels(tuple(x.shape), x.dtype) for x in self._scans[id(model)].inputs]
        self.outputs = self._add_model(model, self.inputs, "")

    def _scan(self, model):
        scan = self._scans[id(model)] = _Scan(model)
        for call in scan.calls:
            self._counts[id(call.operation)] += 1
            if is_graph(call.operation) and id(call.operation) not in self._scans:
                self._scan(call.operation)

    def _add_model(self, model, inputs, prefix):
        scan = self._scans[id(model)]
        self.model_inputs[id(model)] = inputs
        channels = {id(x): item for x, item in zip(scan.inputs, inputs, strict=True)}
        for call in scan.calls:
            self._add_call(call, channels, prefix)
        return [channels[id(x)] for x in scan.outputs]

    def _add_call(self, call, channels, prefix):
        operation, path = call.operation, prefix + call.operation.name
        inputs, extras = (
            [channels[id(x)] for x in tensors] for tensors in (call.inputs, call.extras)
        )
        is_shared = self._counts[id(operation)] > 1
        is_alone = call.is_plain and not call.extras and not is_shared
        if is_alone and id(operation) in self._scans:
            outputs = self._add_model(operation, inputs, f"{path}/")
        else:
            outputs = [Channels(tuple(x.shape), x.dtype) for x in call.outputs]
            node = Node(operation, path, inputs, extras, outputs, is_shared, call.is_plain)
            self.nodes.append(node)
        channels.update((id(x), item) for x, item in zip(call.outputs, outputs, strict=True))


def is_graph(layer):
    """Returns whether a layer is a built Sequential or functional model with Keras' own `call`.

    Args:
        layer: Any object.
    """
    if isinstance(layer, keras.Sequential):
        # Sequential models that Keras could not trace have no `inputs`.
        return type(layer).call is keras.Sequential.call and bool(getattr(layer, "inputs", None))
    if not isinstance(layer, keras.Model) or not isinstance(layer, keras.Function):
        return False
    # The class of functional models, which has no public name, comes right before `Function`.
    classes = type(layer).__mro__
    return type(layer).call is classes[classes.index(keras.Function) - 1].call


def as_functional(model):
    """Returns a functional model with the layers of a model for which `is_graph` is true.

    Args:
        model: A built Sequential or functional model.
    """
    if isinstance(model, keras.Sequential):
        inputs, outputs = model.inputs[0], model.outputs[0]
    else:
        inputs, outputs = model.input, model.output
    return keras.Model(inputs, outputs, name=model.name)


@dataclasses.dataclass(eq=False)
class _Call:
    operation: keras.Operation
    inputs: list
    extras: list
    outputs: list
    is_plain: bool


class _Scan:
    """The calls of one model, with symbolic tensors.

    The calls are recorded while the model is cloned, with stand-ins for its layers. Keras has
    no other public way to list the calls. No weights are made and the model is not changed.
    """

    def __init__(self, model):
        function = as_functional(model)
        self.calls = []
        inputs = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), function.input
        )
        clone = keras.models.clone_model(
            function,
            clone_function=_StandIn,
            call_function=self._record,
            input_tensors=inputs,
        )
        self.inputs, self.outputs = clone.inputs, clone.outputs

    def _record(self, stand_in, *args, **kwargs):
        outputs = stand_in(*args, **kwargs)
        # Layers take their tensors in the first argument, operations such as `x + y` in several.
        is_layer = isinstance(stand_in.operation, keras.Layer)
        first, others = (args[:1], [args[1:], kwargs]) if is_layer else ([args, kwargs], [])
        inputs, extras = _tensors(first), _tensors(others)
        is_plain = len(inputs) == len(keras.tree.flatten(first))
        trains = any(x is True for x in keras.tree.flatten(others))
        flat = keras.tree.flatten(outputs)
        self.calls.append(_Call(stand_in.operation, inputs, extras, flat, is_plain and not trains))
        return outputs


class _StandIn(keras.Operation):
    """Takes the place of a layer in a symbolic graph."""

    def __init__(self, operation):
        super().__init__(name=operation.name)
        self.operation = operation

    def compute_output_spec(self, *args, **kwargs):
        return self.operation.compute_output_spec(*args, **kwargs)


def _tensors(structure):
    return [x for x in keras.tree.flatten(structure) if isinstance(x, keras.KerasTensor)]
