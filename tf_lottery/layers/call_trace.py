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


def symbolic_inputs(layer, input_shape=None):
    """Returns symbolic tensors with which a layer or model can be called.

    Args:
        layer: A built `keras.Layer` or model.
        input_shape: Tuple, the shape of one example without the batch, or a list or dict
            of tuples for several inputs. Defaults to `None`: the shape that the layer was
            built with.

    Returns:
        A `keras.KerasTensor` or a structure of them, with a batch of one unless the model
        prescribes another.

    Raises:
        ValueError: If the shape of an example is not known.
    """
    tensors = declared = _declared_inputs(layer)
    if input_shape is not None:
        tensors = _map_shapes(input_shape, lambda shape: (1, *shape))
        tensors = tensors if declared is None else _fit(tensors, declared, input_shape)
    elif declared is None:
        built = (layer.get_build_config() or {}).get("input_shape")
        tensors = None if built is None else _map_shapes(built, lambda shape: (1, *shape[1:]))
    leaves = [] if tensors is None else keras.tree.flatten(tensors)
    if not leaves or any(size is None for tensor in leaves for size in tensor.shape[1:]):
        raise ValueError(
            "Argument `input_shape` must give the shape of one example, without the batch, for "
            f"a model whose own is not fixed. Received: input_shape={input_shape}, "
            f"model={layer.name!r} with inputs {[tensor.shape for tensor in leaves]}"
        )
    return keras.tree.map_structure(_with_batch, tensors)


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


def _declared_inputs(layer):
    """Returns the symbolic inputs that functional and sequential models have, or `None`."""
    inputs = getattr(layer, "inputs", None)
    if not inputs or not isinstance(keras.tree.flatten(inputs)[0], keras.KerasTensor):
        return None
    # `input` of a functional model has the structure that its user gave the inputs; that of
    # a sequential model is what it was last called with.
    return inputs[0] if isinstance(layer, keras.Sequential) else layer.input


def _map_shapes(shapes, function):
    """Returns symbolic tensors in the structure of `shapes`."""
    if isinstance(shapes, dict):
        return {name: _map_shapes(shape, function) for name, shape in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return keras.KerasTensor(function(tuple(shapes)), "float32")
    return [_map_shapes(shape, function) for shape in shapes]


def _fit(tensors, declared, input_shape):
    """Returns the declared inputs with the shapes of `tensors`."""
    leaves, expected = keras.tree.flatten(tensors), keras.tree.flatten(declared)
    same_kind = isinstance(tensors, dict) == isinstance(declared, dict)
    if len(leaves) != len(expected) or not (same_kind or len(leaves) == 1):
        raise ValueError(
            "Argument `input_shape` must have a shape for every input, in the structure of the "
            f"model's inputs. Received: input_shape={input_shape}, inputs={declared}"
        )
    fitted = [
        _reshaped(tensor, (tensor.shape[0], *leaf.shape[1:]))
        for leaf, tensor in zip(leaves, expected, strict=True)
    ]
    return keras.tree.pack_sequence_as(declared, fitted)


def _with_batch(tensor):
    batch = 1 if tensor.shape[0] is None else tensor.shape[0]
    return _reshaped(tensor, (batch, *tensor.shape[1:]))


def _reshaped(tensor, shape):
    return keras.KerasTensor(shape, tensor.dtype, sparse=tensor.sparse)
