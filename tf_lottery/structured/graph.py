"""The graph of a model: its layer calls and the channels between."""

import collections
import dataclasses
import inspect

import keras
import numpy as np

from tf_lottery.structured.scan import Call, Scan, scan_call, scan_layer


@dataclasses.dataclass(eq=False)
class Channels:
    """A tensor, and properties of the channels along its last axis.

    Args:
        shape: Tuple, the tensor's shape, batch included.
        dtype: String, the tensor's data type.
        label: String, what the channels are if they are none of a tensor, for example the heads
            of attention. Defaults to `""`.
    """

    shape: tuple
    dtype: str
    label: str = ""

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
class Opened:
    """A call of a layer whose calls inside are listed in place of it.

    Args:
        operation: The `keras.Layer`.
        path: String, its name, preceded by the names of the layers around it.
        inputs: List of `Channels`, all tensors that it is called with.
        scan: The `Scan` of its `call`.
        outputs: List of `Channels`.
    """

    operation: keras.Layer
    path: str
    inputs: list
    scan: Scan
    outputs: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(eq=False)
class Node:
    """One call of a layer or operation.

    Args:
        operation: The `keras.Layer` or `keras.Operation`.
        path: String, its name, preceded by the names of the models around it.
        inputs: List of `Channels`, the first argument's tensors.
        extras: List of `Channels`, the tensors of the other arguments, for example masks.
        outputs: List of `Channels`.
        call: The `Call`. That of a layer inside a nested model is the same for every call of
            the model.
        owners: Tuple of `Opened`, the layers around it that are no models, from the outside in.
        arguments: List of the `Channels` and all other values of the first argument, of an
            operation of all arguments.
        is_training: Whether another argument, such as `training=True`, is true.
        named: Dict of the names of a layer's arguments to those `Channels` that are passed
            alone, not in a list.
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
    call: Call
    owners: tuple
    arguments: list
    is_training: bool = False
    named: dict = dataclasses.field(default_factory=dict)
    rule: object = None
    gathered: np.ndarray | None = None

    @property
    def values(self):
        """List of the arguments that are no tensors, such as numbers and variables."""
        return [value for value in self.arguments if not isinstance(value, Channels)]


class Graph:
    """The calls of a model in order, those inside nested models and wrappers included.

    Args:
        model: A built `keras.Sequential` or functional model, or any other layer.
        is_opened: Function of the operation of a call: whether the calls inside a layer that is
            no Sequential or functional model are listed in place of its own.
        objection: Function of a `Call` and the `Scan` inside its layer: the reason why the layer
            is nonetheless not opened. Defaults to `None`: there is none.
    """

    def __init__(self, model, is_opened, objection=None):
        self.nodes = []
        # The input channels of every call of the models whose calls are listed, by their ids.
        self.model_inputs = collections.defaultdict(list)
        # The calls in models whose graph is known, by their ids, and the calls of other layers
        # that are opened, by the ids of the calls.
        self.scans = {}
        self.opened = {}
        # Why layers that should be opened are single nodes, by their ids.
        self.closed = {}
        self._is_opened = is_opened
        self._objection = objection
        self.scan = self.scan_of(model) if is_graph(model) else scan_layer(model)
        self.inputs = [Channels(tuple(x.shape), x.dtype) for x in self.scan.inputs]
        self.model_inputs[id(model)].append(self.inputs)
        self.outputs = self._add_scan(self.scan, self.inputs, "", ())

    def scan_of(self, model):
        """Returns the `Scan` of a Sequential or functional model."""
        if id(model) not in self.scans:
            self.scans[id(model)] = Scan(as_functional(model))
        return self.scans[id(model)]

    def _add_scan(self, scan, inputs, prefix, owners):
        channels = {id(x): item for x, item in zip(scan.inputs, inputs, strict=True)}
        for call in scan.calls:
            given, extras = (
                [channels[id(x)] for x in tensors] for tensors in (call.inputs, call.extras)
            )
            outputs = self._add_call(call, given, extras, prefix + call.operation.name, owners)
            channels.update((id(x), item) for x, item in zip(call.outputs, outputs, strict=True))
        return [channels[id(x)] for x in scan.outputs]

    def _add_call(self, call, inputs, extras, path, owners):
        operation = call.operation
        if is_plain_model(call):
            return self._add_model(operation, inputs, path, owners)
        if type(operation) is keras.layers.TimeDistributed:
            return self._add_time_distributed(call, inputs, extras, path, owners)
        if type(operation) is keras.layers.Bidirectional:
            return self._add_bidirectional(call, inputs, extras, path, owners)
        scan = self._scan_inside(call)
        if scan is not None:
            opened = Opened(operation, path, [*inputs, *extras], scan)
            self.opened[id(call)] = opened
            opened.outputs = self._add_scan(scan, opened.inputs, f"{path}/", (*owners, opened))
            return opened.outputs
        given = {
            id(x): item
            for x, item in zip([*call.inputs, *call.extras], [*inputs, *extras], strict=True)
        }
        outputs = [Channels(tuple(x.shape), x.dtype) for x in call.outputs]
        node = Node(
            operation,
            path,
            inputs,
            extras,
            outputs,
            call,
            owners,
            arguments=[given.get(id(x), x) for x in call.arguments],
            is_training=call.is_training,
            named={name: given[id(x)] for name, x in call.named().items() if id(x) in given},
        )
        self.nodes.append(node)
        return outputs

    def _add_model(self, model, inputs, path, owners):
        self.model_inputs[id(model)].append(inputs)
        return self._add_scan(self.scan_of(model), inputs, f"{path}/", owners)

    def _add_time_distributed(self, call, inputs, extras, path, owners):
        """Adds the call of the layer inside, with the time steps as one more axis."""
        layer = call.operation.layer
        path = f"{path}/{layer.name}"
        if is_graph(layer) and not extras and not call.is_training:
            return self._add_model(layer, inputs, path, owners)
        if "mask" not in inspect.signature(layer.call).parameters:
            extras = []
        outputs = [Channels(tuple(x.shape), x.dtype) for x in call.outputs]
        around = path, inputs, extras, outputs, call, owners, inputs, call.is_training
        self.nodes.append(Node(layer, *around))
        return outputs

    def _add_bidirectional(self, call, inputs, extras, path, owners):
        """Adds the calls of both layers, and one that joins their outputs."""
        wrapper = call.operation
        layers = wrapper.forward_layer, wrapper.backward_layer
        joint = _JOINTS[wrapper.merge_mode]
        all_outputs = [Channels(tuple(x.shape), x.dtype) for x in call.outputs]
        first, ends = all_outputs[0], all_outputs[1 if joint else 2 :]
        starts = [x for x in extras if x.width]
        masks = [x for x in extras if not x.width]
        outputs = all_outputs[:2]
        if joint:
            units = (first.shape[-1] or 0) // (2 if wrapper.merge_mode == "concat" else 1)
            outputs = [Channels((*first.shape[:-1], units), first.dtype) for _ in layers]
        for i, (layer, output) in enumerate(zip(layers, outputs, strict=True)):
            start, end = (_half(states, i) for states in (starts, ends))
            around = [*masks, *start], [output, *end], call, owners, inputs, call.is_training
            self.nodes.append(Node(layer, f"{path}/{layer.name}", inputs, *around))
        # Keras takes both layers to have as many units, so that these go in pairs, which a
        # maximum ties that nothing reads.
        pairs = Channels(outputs[0].shape, first.dtype)
        for kind, output in ((keras.layers.Maximum, pairs), (joint, first)):
            if kind:
                around = outputs, [], [output], call, owners, outputs
                self.nodes.append(Node(kind(name=wrapper.name), path, *around))
        return all_outputs

    def _scan_inside(self, call):
        """Returns the calls inside a call's layer, or `None` if the call is a single node."""
        operation = call.operation
        if id(call) in self.opened:  # It is in a model that is called several times.
            return self.opened[id(call)].scan
        if not self._is_opened(operation):
            return None
        try:
            scan = scan_call(operation, call.args, call.kwargs)
        except Exception as error:  # A layer's own code may fail in any way.
            message = str(error).strip().partition("\n")[0]
            self.closed[id(operation)] = f"its `call` cannot be traced: {message}"
            return None
        reason = self._objection and self._objection(call, scan)
        if reason:
            self.closed[id(operation)] = reason
        return None if reason else scan


_JOINTS = {
    "concat": keras.layers.Concatenate,
    "sum": keras.layers.Add,
    "ave": keras.layers.Average,
    "mul": keras.layers.Multiply,
    None: None,
}


def _half(items, i):
    """Returns the first or second half of a list."""
    middle = len(items) // 2
    return items[i * middle : (i + 1) * middle]


def is_plain_model(call):
    """Returns whether a call is one of a nested model with nothing but the inputs.

    Args:
        call: A `Call`.
    """
    is_plain = len(call.inputs) == len(call.arguments) and not call.is_training
    return is_graph(call.operation) and is_plain and not call.extras


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
