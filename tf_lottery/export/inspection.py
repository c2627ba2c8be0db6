"""`tfl.inspect_tflite`: lists what a TFLite file stores, and in which format."""

import gzip
import math
import os

import numpy as np

from tf_lottery.export import flatbuffer
from tf_lottery.export.file_report import FileReport, TensorRow
from tf_lottery.export.sparse_encoding import decode, from_parameters

WEIGHT_DTYPES = (
    *("float32", "float16", "bfloat16", "float64", "int16", "int8", "uint8"),
    *flatbuffer.BITS,
)
# Bytes of the largest file that is compressed to see its size: that takes seconds from here on.
MAX_GZIP = 5_000_000


def inspect_tflite(file: str | os.PathLike | bytes) -> FileReport:
    """Lists the constants of a TFLite file: how each is stored, its sparsity and bytes.

    Args:
        file: Path of the file, or its bytes. Files made by other converters are read too.

    Returns:
        A `FileReport`.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is not a TFLite file, or a damaged one. The message says what is broken.

    Example:

    >>> written = tfl.export_tflite(sparse, "model.tflite", runs=1)
    >>> report = tfl.inspect_tflite("model.tflite")
    >>> report.num_bytes == written.num_bytes
    True
    >>> sum(row.dtype == "float32" for row in report.rows) > 0
    True
    """
    content = flatbuffer.read_content(file, "file")
    path = file if isinstance(file, (str, os.PathLike)) else None
    zipped = len(gzip.compress(content, 9)) if len(content) <= MAX_GZIP else None
    return describe(content, path, zipped)


def describe(content, path=None, gzip_bytes=None):
    """Returns the `FileReport` of a file, without compressing it.

    Args:
        content: Bytes of the file.
        path: Its path, if it has one. Defaults to `None`.
        gzip_bytes: Integer, its size after compression, or `None` if unknown. Defaults to `None`.
    """
    model = flatbuffer.read_model(content, "file", path)
    rows, seen = [], set()
    for graph in model.subgraphs:
        for index, tensor in enumerate(graph.tensors):
            if tensor.buffer not in seen and model.buffers[tensor.buffer].data is not None:
                seen.add(tensor.buffer)
                row = _row(model, graph, index, tensor)
                rows += [row] if row is not None else []
    return FileReport(
        name="TFLite file" if path is None else os.fspath(path),
        num_bytes=len(content),
        gzip_bytes=gzip_bytes,
        rows=rows,
        trailing_bytes=len(model.trailing),
    )


def constant(model, tensor):
    """Returns the values of a constant in its shape, zeros included, or `None`.

    Args:
        model: A `ModelT`.
        tensor: A `TensorT` of it, stored dense or sparse.
    """
    values = flatbuffer.stored_values(model, tensor)
    shape = tuple(tensor.shape if tensor.shape is not None else ())
    if values is None:
        return None
    if tensor.sparsity is None:
        return values.reshape(shape) if values.size == math.prod(shape) else None
    encoding = from_parameters(tensor.sparsity, shape, values)
    return None if encoding is None else decode(encoding)


def _row(model, graph, index, tensor):
    values = flatbuffer.stored_values(model, tensor)
    if values is None:
        return None
    shape = tuple(int(size) for size in (tensor.shape if tensor.shape is not None else ()))
    operator, position, name, unpacks = _reader(model, graph, index)
    storage, num_bytes = "dense", _num_bytes(model, tensor)
    if tensor.sparsity is not None:
        use = "unpacked at load" if unpacks else "multiplied as they are"
        encoding = from_parameters(tensor.sparsity, shape, values)
        storage = f"{_format(encoding, len(shape))}, {use}"
        num_bytes = num_bytes if encoding is None else encoding.num_bytes
    elif values.size != math.prod(shape):
        return None
    dtype = flatbuffer.dtype_name(tensor)
    is_bias = operator in flatbuffer.WEIGHT_OPERATORS and position > flatbuffer.WEIGHT_INPUT
    return TensorRow(
        name=name.decode(errors="replace"),
        operator=operator,
        shape=shape,
        dtype=dtype,
        storage=storage,
        num_stored=values.size,
        nonzeros=int(np.count_nonzero(values != _stored_zero(tensor, shape))),
        num_bytes=num_bytes,
        is_weight=dtype in WEIGHT_DTYPES or is_bias,
    )


def _stored_zero(tensor, shape):
    """Returns the number that stands for zero in a tensor, or an array of one for each element."""
    points = getattr(tensor.quantization, "zeroPoint", None)
    # What a sparse tensor leaves out is 0.
    if points is None or tensor.sparsity is not None or not np.any(points):
        return 0
    points, axis = np.asarray(points), tensor.quantization.quantizedDimension
    if points.size == 1:
        return points.item()
    if not 0 <= axis < len(shape) or points.size != shape[axis]:
        return 0
    along = [1] * len(shape)
    along[axis] = -1
    return np.broadcast_to(points.reshape(along), shape).reshape(-1)


def _reader(model, graph, index):
    """Returns the operator that computes with a tensor, the input it is, its name there, and
    whether a sparse tensor is unpacked for it.
    """
    kind, position, unpacks, name = "", 0, False, graph.tensors[index].name
    # A constant passes at most one operator of each kind before it is computed with.
    for _ in range(1 + len(flatbuffer.UNPACKING)):
        reader = next((op for op in graph.operators if index in op.inputs), None)
        if reader is None:
            break
        kind, position = flatbuffer.operator_name(model, reader), list(reader.inputs).index(index)
        if kind not in flatbuffer.UNPACKING:
            break
        index = reader.outputs[0]
        if kind == "DENSIFY":
            unpacks, name = True, graph.tensors[index].name
    return kind, position, name or b"", unpacks


def _num_bytes(model, tensor):
    data = model.buffers[tensor.buffer].data
    return 0 if data is None else len(data)


def _format(encoding, rank):
    if encoding is None:
        return "sparse"
    if encoding.block > 1:
        return f"blocks of {encoding.block}"
    return "CSR" if encoding.order[-1] == rank - 1 else "CSC"
