"""The graph of a functional or Sequential model: its layer calls and the channels between."""

import collections
import dataclasses

import keras
import numpy as np

from tf_lottery.structured.scan import Scan, scan_call, scan_layer


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
class Node:
    """One call of a layer or operation.

    Args:
        operation: The `keras.Layer` or `keras.Operation`.
        path: String, its name, preceded by the names of the models around it.
        inputs: List of `Channels`, the first argument's tensors.
        extras: List of `Channels`, the tensors of the other arguments, for example masks.
        outputs: List of `Channels`.
        is_shared: Whether the operation is called more than once.
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
    is_shared: bool
    arguments: list
    is_training: bool
    named: dict
    rule: object = None
    gathered: np.ndarray | None = None

    @property
    def values(self):
        """List of the arguments that are no tensors, such as numbers and variables."""
        return [value for value in self.arguments if not isinstance(value, Channels)]


class Graph:
    """The calls of a model in order, those inside nested models included.

    Args:
        model: A built `keras.Sequential` or functional model, or any other layer if
            `is_opened` accepts it.
        is_opened: Function of a call's operation: whether the calls inside a layer are listed
            in place of its own, for every call. Such a layer may be subclassed. Defaults to
            `None`: only Sequential and functional models are opened, but one that is called
            several times, or with other arguments besides its inputs, is a single node.
    """

    def __init__(self, model, is_opened=None):
        self.nodes = []
        # The input channels of every model whose calls are listed, by the model's id.
        self.model_inputs = {}
        # Why layers that should be opened are single nodes, by their ids.
        self.closed = {}
        self._is_opened = is_opened
        self._scans = {}
        self._counts = collections.Counter()
        scan = self._scan(model) if is_graph(model) else scan_layer(model)
        self.inputs = [Channels(tuple(x.shape), x.dtype) for x in scan.inputs]
        self.model_inputs[id(model)] = self.inputs
        self.outputs = self._add_scan(scan, self.inputs, "")

    def _scan(self, model):
        """Returns the calls of a Sequential or functional model."""
        if id(model) not in self._scans:
            scan = self._scans[id(model)] = Scan(as_functional(model))
            for call in scan.calls:
                self._counts[id(call.operation)] += 1
                if is_graph(call.operation):
                    self._scan(call.operation)
        return self._scans[id(model)]

    def _add_scan(self, scan, inputs, prefix):
        channels = {id(x): item for x, item in zip(scan.inputs, inputs, strict=True)}
        for call in scan.calls:
            given, extras = (
                [channels[id(x)] for x in tensors] for tensors in (call.inputs, call.extras)
            )
            outputs = self._add_call(call, given, extras, prefix + call.operation.name)
            channels.update((id(x), item) for x, item in zip(call.outputs, outputs, strict=True))
        return [channels[id(x)] for x in scan.outputs]

    def _add_call(self, call, inputs, extras, path):
        operation = call.operation
        scan = self._scan_inside(call)
        if scan is not None:
            self.model_inputs[id(operation)] = inputs
            return self._add_scan(scan, [*inputs, *extras], f"{path}/")
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
            is_shared=self._counts[id(operation)] > 1,
            arguments=[given.get(id(x), x) for x in call.arguments],
            is_training=call.is_training,
            named={name: given[id(x)] for name, x in call.named().items() if id(x) in given},
        )
        self.nodes.append(node)
        return outputs

    def _scan_inside(self, call):
        """Returns the calls inside a call's layer, or `None` if the call is a single node."""
        operation = call.operation
        is_plain = len(call.inputs) == len(call.arguments) and not call.is_training
        if is_graph(operation) and is_plain and not call.extras:
            if self._is_opened is None and self._counts[id(operation)] > 1:
                return None
            return self._scan(operation)
        if self._is_opened is None or not self._is_opened(operation):
            return None
        try:
            return scan_call(operation, call.args, call.kwargs)
        except Exception as error:  # A layer's own code may fail in any way.
            message = str(error).strip().partition("\n")[0]
            self.closed[id(operation)] = f"its `call` cannot be traced: {message}"
            return None


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
