"""Finds the constants of a TFLite file that are the weights of layers."""

import collections
import dataclasses
import math

import numpy as np

from tf_lottery.export import flatbuffer

DTYPES = ("float32", "float16", "int8")


@dataclasses.dataclass(frozen=True)
class Weights:
    """A constant that a graph uses only as the weights of layers.

    Args:
        index: Integer, the index of its tensor in the graph.
        array: NumPy array of its values.
        readers: List of the `OperatorT` that multiply by it.
        behind_dequantize: Whether they read it through a DEQUANTIZE operator.
        operator: String, the schema's name of the readers, `""` if they differ.
        dtype: String, the data type of the other operand of the multiplication, `""` if the
            readers differ.
        rows: Integer, how many rows a FULLY_CONNECTED operator multiplies in a run.
    """

    index: int
    array: np.ndarray
    readers: list
    behind_dequantize: bool
    operator: str
    dtype: str
    rows: int


def find_weights(model, graph):
    """Returns the constants that a graph uses only as the weights of layers.

    Args:
        model: A `ModelT`.
        graph: A `SubGraphT` of it.

    Returns:
        List of `Weights`, with float or int8 values that are stored dense.
    """
    uses = collections.defaultdict(list)
    for operator in graph.operators:
        for position, index in enumerate(operator.inputs):
            uses[index].append((operator, position))
    found = []
    for index, tensor in enumerate(graph.tensors):
        array = _dense_array(model, tensor)
        if array is None or index in graph.outputs or not uses[index]:
            continue
        readers, behind = uses[index], False
        if all(flatbuffer.operator_name(model, op) == "DEQUANTIZE" for op, _ in readers):
            outputs = [op.outputs[0] for op, _ in readers]
            readers, behind = [use for output in outputs for use in uses[output]], True
        if not readers:
            continue
        kinds = [flatbuffer.operator_name(model, op) for op, _ in readers]
        if set(kinds) <= set(flatbuffer.WEIGHT_OPERATORS) and all(
            position == flatbuffer.WEIGHT_INPUT for _, position in readers
        ):
            operators = [op for op, _ in readers]
            found.append(_describe(graph, index, array, operators, kinds, behind))
    return found


def _dense_array(model, tensor):
    if tensor.sparsity is not None or flatbuffer.dtype_name(tensor) not in DTYPES:
        return None
    values = flatbuffer.stored_values(model, tensor)
    shape = tuple(tensor.shape if tensor.shape is not None else ())
    if values is None or not shape or values.size != math.prod(shape):
        return None
    return values.reshape(shape)


def _describe(graph, index, array, operators, kinds, behind):
    positions = [flatbuffer.WEIGHT_OPERATORS[kind] for kind in kinds]
    factors = [op.inputs[i] for op, i in zip(operators, positions, strict=True)]
    dtypes = {flatbuffer.dtype_name(graph.tensors[i]) for i in factors}
    shapes = [graph.tensors[op.outputs[0]].shape or () for op in operators]
    return Weights(
        index=index,
        array=array,
        readers=operators,
        behind_dequantize=behind,
        operator=kinds[0] if len(set(kinds)) == 1 else "",
        dtype=dtypes.pop() if len(dtypes) == 1 else "",
        rows=max(math.prod(shape[:-1]) for shape in shapes),
    )
