"""Finds which layers a model calls, how often, and with which shapes."""

import contextlib
import dataclasses
import functools

import keras

from tf_lottery import _keras
from tf_lottery.layers.interception import intercepted
from tf_lottery.layers.masked import Masked


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer.

    Args:
        layer: The `keras.Layer`.
        input_shape: Tuple, the shape of its first input, batch included.
        output_shape: Tuple, the shape of its first output.
        follows: Integer, the position in the list of the call whose output is this call's
            input. `None` if there is no such call.
    """

    layer: keras.Layer
    input_shape: tuple
    output_shape: tuple
    follows: int | None = None


@dataclasses.dataclass(frozen=True)
class Trace:
    """The calls and variable reads during a call of a layer.

    Args:
        calls: List of `Call`, in order, of the layers of the requested classes.
        read_elsewhere: List of the variables that are read outside these calls.
    """

    calls: list
    read_elsewhere: list


def trace(layer, inputs, kinds):
    """Lists which layers of given classes a layer calls, and which variables it reads elsewhere.

    Nothing is computed: the call is symbolic, on shapes alone, in inference mode. `Masked`
    wrappers call their layer with its plain kernels. A layer that is called twice is listed
    twice. Calls inside a listed call are left out.

    Args:
        layer: A built `keras.Layer` or model of any kind.
        inputs: The `keras.KerasTensor`, or structure of them, to call it with.
        kinds: Tuple of the layer classes to look for.

    Returns:
        A `Trace`.

    Example:

    >>> class Tied(keras.Model):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.embedding = keras.layers.Embedding(10, 4)
    ...
    ...     def call(self, inputs):
    ...         return ops.matmul(self.embedding(inputs), ops.transpose(self.embedding.embeddings))
    >>> tied = Tied()
    >>> outputs = tied(np.array([[1, 2, 3]]))
    >>> found = trace(tied, keras.KerasTensor((1, 3), "int32"), (keras.layers.Embedding,))
    >>> [call.output_shape for call in found.calls], [v.name for v in found.read_elsewhere]
    ([(1, 3, 4)], ['embeddings'])
    """
    recorder = _Recorder()

    def call(tensors):
        with recorder:
            return layer(tensors, training=False)

    with contextlib.ExitStack() as stack:
        for sublayer in {id(sub): sub for sub in _keras.all_layers(layer)}.values():
            if isinstance(sublayer, kinds):
                stack.enter_context(intercepted(sublayer, recorder.recording(sublayer)))
            elif isinstance(sublayer, Masked):
                stack.enter_context(intercepted(sublayer, _plain_call(sublayer)))
        _keras.compute_output_spec(call, inputs)
    return Trace(recorder.calls, list(recorder.read_elsewhere.values()))


def trace_calls(layer, inputs, kinds):
    """Lists the calls of layers of given classes that a layer makes.

    Args:
        layer: A built `keras.Layer` or model of any kind.
        inputs: The `keras.KerasTensor`, or structure of them, to call it with.
        kinds: Tuple of the layer classes to look for.

    Returns:
        List of `Call`, in order; see `trace`.

    Example:

    >>> model = keras.Sequential([keras.layers.Dense(16), keras.layers.Dense(3)])
    >>> model.build((None, 8))
    >>> calls = trace_calls(model, keras.KerasTensor((1, 8)), (keras.layers.Dense,))
    >>> [call.output_shape for call in calls]
    [(1, 16), (1, 3)]
    """
    return trace(layer, inputs, kinds).calls


class _Recorder(keras.StatelessScope):
    """A scope that records calls of layers, and the variables that are read outside them."""

    def __init__(self):
        super().__init__()
        self.calls, self.read_elsewhere = [], {}
        self._outputs = []
        self._inside = False

    def get_current_value(self, variable):
        """Returns the value of a variable, and records the read if it is outside the calls."""
        if not self._inside:
            self.read_elsewhere[id(variable)] = variable
        return super().get_current_value(variable)

    def recording(self, layer):
        """Returns a function that replaces the layer's call by one that is recorded."""
        return lambda call: functools.partial(self._record, layer, call)

    def _record(self, layer, call, *args, **kwargs):
        if self._inside:
            return call(*args, **kwargs)
        self._inside = True
        try:
            outputs = call(*args, **kwargs)
        finally:
            self._inside = False
        given, made = map(_first, (args[0] if args else next(iter(kwargs.values())), outputs))
        follows = [i for i, output in enumerate(self._outputs) if output is given]
        self._outputs.append(made)
        self.calls.append(
            Call(layer, tuple(given.shape), tuple(made.shape), follows[-1] if follows else None)
        )
        return outputs


def _plain_call(masked):
    """Returns a function that replaces the wrapper's call by a plain call of its layer.

    The wrapper itself would read all kernels, and call the layer in a scope of its own.
    """
    return lambda call: lambda *args, **kwargs: masked.layer(*args, **kwargs)


def _first(tensors):
    return keras.tree.flatten(tensors)[0]
