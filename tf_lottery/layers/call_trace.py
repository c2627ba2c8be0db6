"""Which layers a model calls, how often, and with which shapes."""

import contextlib
import dataclasses
import functools

import keras

from tf_lottery import _keras
from tf_lottery.layers.interception import intercepted


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer.

    Args:
        layer: The `keras.Layer`.
        input_shape: Tuple, the shape of its first input, batch included.
        output_shape: Tuple, the shape of its first output.
        follows: Integer, the position in the list of the call whose output is the input, or
            `None` if none is.
    """

    layer: keras.Layer
    input_shape: tuple
    output_shape: tuple
    follows: int | None = None


def trace_calls(layer, inputs, kinds):
    """Lists the calls of layers of some kinds that a call of a layer makes.

    Nothing is computed: the call is symbolic, on shapes alone, in inference mode. A layer
    that is called twice is listed twice; calls inside of a listed call are left out.

    Args:
        layer: A built `keras.Layer` or model of any kind.
        inputs: The `keras.KerasTensor`, or structure of them, that it is called with.
        kinds: Tuple of the layer classes to look for.

    Returns:
        List of `Call`, in order.

    Example:

    >>> model = keras.Sequential([keras.layers.Dense(16), keras.layers.Dense(3)])
    >>> model.build((None, 8))
    >>> calls = trace_calls(model, keras.KerasTensor((1, 8)), (keras.layers.Dense,))
    >>> [call.output_shape for call in calls]
    [(1, 16), (1, 3)]
    """
    recorder = _Recorder()
    with contextlib.ExitStack() as stack:
        for sublayer in {id(sub): sub for sub in _keras.all_layers(layer)}.values():
            if isinstance(sublayer, kinds):
                stack.enter_context(recorder.listening(sublayer))
        _keras.compute_output_spec(functools.partial(layer, training=False), inputs)
    return recorder.calls


class _Recorder:
    """Lists calls while it listens to layers."""

    def __init__(self):
        self.calls = []
        self._outputs = []
        self._inside = False

    def listening(self, layer):
        return intercepted(layer, lambda call: functools.partial(self._record, layer, call))

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


def _first(tensors):
    return keras.tree.flatten(tensors)[0]
