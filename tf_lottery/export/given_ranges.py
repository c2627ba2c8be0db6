"""Takes the ranges of activations from fake quantization, in place of measured ones."""

import contextlib

from tf_lottery.export import flatbuffer, flatbuffer_edits
from tf_lottery.layers.fake_quantization import HIGHEST, LOWEST, FakeQuantization
from tf_lottery.model import SparseModel

# Operators that do not change values, so that a range holds before them too.
_MOVING = ("EXPAND_DIMS", "RESHAPE", "SQUEEZE", "TRANSPOSE")
# The converter stores the steps of fake quantization as unsigned bytes.
_OFFSET = 128


def fake_quantization_of(model, quantize):
    """Returns the `FakeQuantization` of a model that a file takes its ranges from, or `None`.

    Args:
        model: A `SparseModel` or any other model.
        quantize: String or `None`, the precision of the file.
    """
    is_used = isinstance(model, SparseModel) and quantize == "int8"
    return model.find_part(FakeQuantization) if is_used else None


@contextlib.contextmanager
def marked(model, tweak):
    """Marks the activations of a plain model for `take_ranges` while it is converted.

    Args:
        model: The plain `keras.Model`.
        tweak: Its `FakeQuantization`, or `None`, which marks nothing.
    """
    if tweak is None:
        yield
        return
    limits = {id(tracked): _with_zero(tracked.range()) for tracked in tweak.ranges}
    with tweak.observed(model, lambda tracked, x: _mark(x, *limits[id(tracked)])):
        yield


def _with_zero(limits):
    low, high = limits or (0.0, 0.0)
    return min(low, 0.0), max(high, 0.0)


def _mark(x, low, high):
    import tensorflow as tf

    if low == high:  # Not trained, or always zero: the range is measured.
        return x
    return tf.quantization.fake_quant_with_min_max_args(x, low, high)


def take_ranges(content):
    """Removes the marks from a converted file.

    Args:
        content: Bytes of a float32 file. A mark is a pair of QUANTIZE and DEQUANTIZE.

    Returns:
        Bytes of the file without marks, and a dict of the names of tensors to pairs of the
        smallest and largest value.
    """
    model = flatbuffer.read_model(content)
    graph = model.subgraphs[0]
    makers = {i: operator for operator in graph.operators for i in operator.outputs}
    ranges, replaced, marks = {}, {}, []

    def before(index):
        """Yields a tensor and those that have the same values in another shape."""
        yield index
        maker = makers.get(index)
        if maker is not None and flatbuffer.operator_name(model, maker) in _MOVING:
            yield from before(replaced.get(maker.inputs[0], maker.inputs[0]))

    for operator in graph.operators:
        name = flatbuffer.operator_name(model, operator)
        if name == "QUANTIZE":
            (source,), (mark,) = operator.inputs, operator.outputs
            source = replaced[mark] = replaced.get(source, source)
            limits = _limits(graph.tensors[mark])
            ranges.update((graph.tensors[i].name.decode(), limits) for i in before(source))
            marks.append(operator)
        elif name == "DEQUANTIZE" and operator.inputs[0] in replaced:
            replaced[operator.outputs[0]] = replaced[operator.inputs[0]]
            marks.append(operator)
    if not marks:
        return content, {}
    left = {id(operator) for operator in marks}
    graph.operators = [operator for operator in graph.operators if id(operator) not in left]
    for operator in graph.operators:
        operator.inputs = [replaced.get(i, i) for i in operator.inputs]
    graph.outputs = [replaced.get(i, i) for i in graph.outputs]
    for signature in model.signatureDefs or []:
        for entry in signature.outputs:
            entry.tensorIndex = replaced.get(entry.tensorIndex, entry.tensorIndex)
    flatbuffer_edits.drop_unused_tensors(model)
    return flatbuffer.write_model(model), ranges


def _limits(tensor):
    """Returns the smallest and largest value that the bytes of a mark stand for."""
    (scale,), (zero_point,) = tensor.quantization.scale, tensor.quantization.zeroPoint
    zero_point = int(zero_point) - _OFFSET
    return tuple(float(scale) * (limit - zero_point) for limit in (LOWEST, HIGHEST))
