"""Stores the pruned weights of a TFLite file in a sparse format.

The converter has a flag for this, but it computes wrong numbers if the block size does not
divide the width of a layer. With float16 and int8 it makes files that give NaN or do not load.
This module rewrites the dense-stored file instead. It uses only two forms, which the runtime
reads correctly:

- *unpacked*: a `DENSIFY` operator unpacks the weights once, when the file is loaded. The
  outputs are then bit-identical to those of the dense-stored file.
- *direct*: a `FULLY_CONNECTED` operator of version 8 multiplies by the sparse weights
  without unpacking them, in blocks of 1x4 in float32 and of 1x16 in int8.
"""

import collections
import copy
import dataclasses
import math

import numpy as np

from tf_lottery.checks import choice
from tf_lottery.export import flatbuffer
from tf_lottery.export.sparse_encoding import SparseEncoding, encode, to_parameters

# The version of FULLY_CONNECTED whose weights may be sparse. Delegates do not take it.
DIRECT_VERSION = 8
DIRECT_BLOCKS = {"float32": 4, "int8": 16}
# Block sizes: how many consecutive inputs of an output share one position.
BLOCKS = (1, 4, 16)
# Bytes of the tensor, the tables and the operator that a sparse tensor adds to a file.
OVERHEAD = 300
# Below these block densities the direct kernel is faster than the dense one, for one row of
# inputs and for several rows; measured by `benchmarks/export_latency.py`.
FAST_DENSITY, FAST_DENSITY_OF_ROWS = 0.15, 0.06


def sparsify_flatbuffer(content: bytes, optimize_for: str = "disk") -> bytes:
    """Returns a TFLite file with its pruned weights stored sparse.

    Each kernel of a dense, convolutional or recurrent layer is stored in its smallest form. It
    stays dense if no sparse form is smaller, so the file never grows.

    Args:
        content: Bytes of a dense-stored file, float or quantized to int8.
        optimize_for: `"disk"` chooses the smallest form of each constant. `"latency"` chooses
            the form that is expected to run fastest on a CPU, and the smallest among equally
            fast ones. Defaults to `"disk"`.

    Returns:
        Bytes of the new file, or `content` itself if nothing gets smaller.

    Raises:
        ValueError: If `content` is not a TFLite file or `optimize_for` is none of the above.

    Example:

    >>> import pathlib
    >>> written = tfl.export_tflite(sparse, "dense.tflite", storage="dense", runs=1)
    >>> small = sparsify_flatbuffer(pathlib.Path("dense.tflite").read_bytes())
    """
    choice("optimize_for", optimize_for, ("disk", "latency"))
    model = flatbuffer.read_model(content)
    buffers = {}
    for graph in model.subgraphs:
        for weights in find_weights(model, graph):
            form = _best_form(weights, optimize_for)
            if form is not None:
                # Constants that shared a dense buffer share a sparse one, if shape and type are
                # equal too: otherwise the same bytes have other rows, columns or zeros.
                encoding, array = form.encoding, weights.array
                layout = array.shape, array.dtype.name, encoding.order, encoding.block
                key = graph.tensors[weights.index].buffer, layout
                if key not in buffers:
                    buffers[key] = flatbuffer.add_buffer(model, encoding.values)
                _store(model, graph, weights, form, buffers[key])
    flatbuffer.drop_unused_buffers(model)
    smaller = flatbuffer.write_model(model) if buffers else content
    return bytes(min(smaller, content, key=len))


@dataclasses.dataclass(frozen=True)
class Weights:
    """A constant that a graph uses only as the weights of layers.

    Args:
        index: Integer, the index of its tensor in the graph.
        array: NumPy array of its values.
        readers: List of the `OperatorT` that multiply by it.
        behind_dequantize: Whether they read it through a DEQUANTIZE operator.
        operator: String, the schema's name of the readers, `""` if they differ.
        dtype: String, the data type of the other operand of the multiplication.
        rows: Integer, how many rows a FULLY_CONNECTED operator multiplies in a run.
    """

    index: int
    array: np.ndarray
    readers: list
    behind_dequantize: bool
    operator: str
    dtype: str
    rows: int


@dataclasses.dataclass(frozen=True)
class _Form:
    encoding: SparseEncoding
    is_direct: bool


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
        names = {flatbuffer.operator_name(model, op) for op, _ in readers}
        if names <= set(flatbuffer.WEIGHT_OPERATORS) and all(
            position == flatbuffer.WEIGHT_INPUT for _, position in readers
        ):
            operators = [op for op, _ in readers]
            kind = names.pop() if len(names) == 1 else ""
            found.append(_describe(graph, index, array, operators, behind, kind))
    return found


def _dense_array(model, tensor):
    if tensor.sparsity is not None or flatbuffer.dtype_name(tensor) not in _DTYPES:
        return None
    values = flatbuffer.stored_values(model, tensor)
    shape = tuple(tensor.shape if tensor.shape is not None else ())
    if values is None or not shape or values.size != math.prod(shape):
        return None
    return values.reshape(shape)


_DTYPES = ("float32", "float16", "int8")


def _describe(graph, index, array, operators, behind, kind):
    inputs = [graph.tensors[op.inputs[0]] for op in operators]
    outputs = [graph.tensors[op.outputs[0]] for op in operators]
    return Weights(
        index=index,
        array=array,
        readers=operators,
        behind_dequantize=behind,
        operator=kind,
        dtype=flatbuffer.dtype_name(inputs[0]),
        rows=max(math.prod(output.shape[:-1]) for output in outputs),
    )


def _best_form(weights, optimize_for):
    """Returns the form to store weights in, or `None` for dense."""
    array = weights.array
    forms = []
    for encoding in _encodings(array):
        if _can_be_direct(weights, encoding):
            forms.append(_Form(encoding, is_direct=True))
        if _can_unpack(weights):
            forms.append(_Form(encoding, is_direct=False))
    forms = [form for form in forms if form.encoding.num_bytes + OVERHEAD < array.nbytes]
    # The direct form can be slower than dense storage. `"latency"` then rules it out. `"disk"`
    # rules it out only if the unpacked form, which has the same size, is possible.
    slow = [form for form in forms if form.is_direct and not _is_fast(weights, form.encoding)]
    if optimize_for == "latency" or _can_unpack(weights):
        forms = [form for form in forms if form not in slow]
    if optimize_for == "latency":
        forms = [form for form in forms if form.is_direct] or forms
    return min(forms, key=lambda form: form.encoding.num_bytes, default=None)


def _encodings(array):
    for block in BLOCKS:
        if array.shape[-1] % block == 0:
            yield encode(array, block=block)
    # Along a shorter axis, positions fit into fewer bits.
    if array.shape[0] < array.shape[-1]:
        yield encode(array, axis=0)


def _can_be_direct(weights, encoding):
    return (
        weights.operator == "FULLY_CONNECTED"
        and not weights.behind_dequantize
        and encoding.block == DIRECT_BLOCKS.get(weights.array.dtype.name)
    )


def _is_fast(weights, encoding):
    if weights.rows > 1:
        return encoding.density < FAST_DENSITY_OF_ROWS
    return encoding.density < FAST_DENSITY


def _can_unpack(weights):
    if weights.behind_dequantize or weights.array.dtype.name == "float32":
        return True
    # Delegates need int8 weights stored in the file itself, not unpacked at load. The only
    # exception are int8 convolutions.
    return weights.operator == "CONV_2D" and weights.dtype == "int8"


def _store(model, graph, weights, form, buffer):
    tensor = graph.tensors[weights.index]
    sparse = tensor if form.is_direct else copy.copy(tensor)
    if form.is_direct:
        for operator in weights.readers:
            operator.opcodeIndex = flatbuffer.operator_code(
                model, "FULLY_CONNECTED", DIRECT_VERSION
            )
    else:
        _unpack_at_load(model, graph, weights.index, sparse)
    sparse.sparsity = to_parameters(form.encoding)
    sparse.buffer = buffer


def _unpack_at_load(model, graph, index, sparse):
    """Adds a DENSIFY operator that computes the tensor at `index` from a new one, `sparse`."""
    from ai_edge_litert import schema_py_generated as schema

    sparse.name = f"sparse_{len(graph.tensors)}".encode()
    # Only the unpacked tensor needs the scales.
    sparse.quantization = None
    graph.tensors.append(sparse)
    graph.tensors[index].buffer = 0
    operator = schema.OperatorT(
        opcodeIndex=flatbuffer.operator_code(model, "DENSIFY", 1),
        inputs=[len(graph.tensors) - 1],
        outputs=[index],
        builtinOptionsType=schema.BuiltinOptions.DensifyOptions,
        builtinOptions=schema.DensifyOptionsT(),
    )
    first = next(i for i, other in enumerate(graph.operators) if index in other.inputs)
    graph.operators.insert(first, operator)
