"""Lists the calls of a model: those of a functional model, and those in a layer's `call`."""

import dataclasses
import inspect

import keras

from tf_lottery import _keras
from tf_lottery.layers.inputs import model_inputs

# The value of the argument `training` while a layer's `call` is followed. As 0 it is false, and
# unlike `False`, which a layer may itself pass to its sublayers, it tells that it was passed on.
PASSED_ON = 0


@dataclasses.dataclass(eq=False)
class Call:
    """One call of a layer or operation, with symbolic tensors.

    Args:
        operation: The `keras.Layer` or `keras.Operation`.
        args: Tuple of its positional arguments.
        kwargs: Dict of its keyword arguments.
        outputs: List of the tensors that it returns.
    """

    operation: keras.Operation
    args: tuple
    kwargs: dict
    outputs: list

    def __post_init__(self):
        # Layers take their tensors in the first argument, operations such as `x + y` in several.
        is_layer = isinstance(self.operation, keras.Layer)
        if is_layer and not self.args:
            self.args, self.kwargs = _with_first_argument(self.operation, self.kwargs)
        first = self.args[:1] if is_layer else [self.args, self.kwargs]
        others = keras.tree.flatten([self.args[1:], self.kwargs] if is_layer else [])
        self.arguments = keras.tree.flatten(first)
        self.inputs = [x for x in self.arguments if is_tensor(x)]
        self.extras = [x for x in others if is_tensor(x)]
        self.is_training = any(x is True for x in others)

    def named(self):
        """Returns a dict of the names of a layer's arguments to their values."""
        if not isinstance(self.operation, keras.Layer):
            return {}
        try:
            return inspect.signature(self.operation.call).bind(*self.args, **self.kwargs).arguments
        except TypeError:  # Keras passes arguments on that `call` does not have.
            return {}


def _with_first_argument(layer, kwargs):
    """Returns positional and keyword arguments with the first one of `call` as positional."""
    first = next(iter(inspect.signature(layer.call).parameters))
    others = {name: value for name, value in kwargs.items() if name != first}
    return (kwargs[first],) if first in kwargs else (), others


class Scan:
    """The calls of one functional model.

    The calls are recorded while the model is cloned, with stand-ins for its layers. Keras has
    no other public way to list the calls. No weights are made and the model is not changed.

    Args:
        function: A `keras.Function` or functional model.
        structure: What the outputs are nested in. Defaults to `None`: as those of `function`.
    """

    def __init__(self, function, structure=None):
        self.calls = []
        self.structure = function.output if structure is None else structure
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
        # The variables that are read otherwise than in the calls of their layers.
        arguments = keras.tree.flatten([(call.args, call.kwargs) for call in self.calls])
        self.read = [value for value in arguments if isinstance(value, keras.Variable)]

    def _record(self, stand_in, *args, **kwargs):
        outputs = stand_in(*args, **kwargs)
        flat = keras.tree.flatten(outputs)
        self.calls.append(Call(stand_in.operation, args, kwargs, flat))
        return outputs


class _StandIn(keras.Operation):
    """Takes the place of a layer in a symbolic graph."""

    def __init__(self, operation):
        super().__init__(name=operation.name)
        self.operation = operation

    def compute_output_spec(self, *args, **kwargs):
        return self.operation.compute_output_spec(*args, **kwargs)


def scan_layer(layer):
    """Lists the calls in the `call` of a layer or subclassed model.

    Args:
        layer: A built `keras.Layer`.

    Returns:
        A `Scan`, whose inputs and outputs are flat lists.

    Raises:
        ValueError: If the shapes of the inputs are not known, or `call` does not work with
            symbolic tensors.
    """
    inputs = model_inputs(layer)
    if inputs is None:
        raise ValueError(
            "Argument `model` must be built, with all inputs in the first argument of its `call` "
            f"(a list or dict for several). Received: model={layer!r}, of which the shapes of the "
            "inputs are not known"
        )
    try:
        return scan_call(layer, (inputs,), {})
    except Exception as error:  # The layer's own code may fail in any way.
        raise ValueError(
            "Argument `model` must have a `call` that takes all inputs in its first argument (a "
            "list or dict for several) and works with symbolic tensors, with layers and functions "
            f"of `keras.ops`. Received: model={layer!r}, which fails: {error}"
        ) from error


def scan_call(layer, args, kwargs):
    """Lists the calls in a layer's `call`, at inference.

    Args:
        layer: A built `keras.Layer`.
        args: Tuple of positional arguments.
        kwargs: Dict of keyword arguments.

    Returns:
        A `Scan` whose inputs are the tensors of the arguments, in order.
    """
    tensors = [x for x in keras.tree.flatten([args, kwargs]) if is_tensor(x)]
    inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in tensors]
    given = {id(x): item for x, item in zip(tensors, inputs, strict=True)}
    args, kwargs = keras.tree.map_structure(lambda x: given.get(id(x), x), (args, kwargs))
    if "training" in inspect.signature(layer.call).parameters and not kwargs.get("training"):
        kwargs = {**kwargs, "training": PASSED_ON}
    with _keras.kept_nodes(layer), _Reads() as reads:
        structure = layer.call(*args, **kwargs)
        outputs = keras.tree.flatten(structure)
        if not all(map(is_tensor, outputs)):
            raise TypeError("it returns other values than tensors")
        values_read = list(reads.variables)
        scan = Scan(keras.Model(inputs, outputs), structure)
    scan.read += values_read
    return scan


class _Reads(keras.StatelessScope):
    """Lists the variables whose values are read, which would be constants of the calls.

    Calls with symbolic tensors read no values.
    """

    def __init__(self):
        super().__init__()
        self.variables = []

    def get_current_value(self, variable):
        self.variables.append(variable)
        return super().get_current_value(variable)


def is_tensor(value):
    """Returns whether a value is a symbolic tensor."""
    return isinstance(value, keras.KerasTensor)
