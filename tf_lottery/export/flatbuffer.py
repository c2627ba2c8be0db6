"""Reads and writes TFLite files as objects of TFLite's flatbuffer schema."""

import math
import os
import pathlib

import numpy as np

from tf_lottery import extras
from tf_lottery.export.file_structure import fill_absent_lists, find_problem
from tf_lottery.export.trailing_bytes import CheckedBytes, append_trailing, find_trailing

ALIGNMENT = 16
# Operators whose second input is a kernel that the runtime accepts in a sparse format, and the
# positions of the inputs that they multiply by it.
WEIGHT_OPERATORS = {
    "CONV_2D": 0,
    "CONV_3D": 0,
    "CONV_3D_TRANSPOSE": 2,
    "DEPTHWISE_CONV_2D": 0,
    "FULLY_CONNECTED": 0,
    "TRANSPOSE_CONV": 2,
}
WEIGHT_INPUT = 1
# Operators that only change how a constant is represented.
UNPACKING = ("DENSIFY", "DEQUANTIZE")
# Types of which one byte holds several numbers, and the bits of each.
BITS = {"int4": 4, "uint4": 4, "int2": 2}


def read_content(file, argument):
    """Returns the bytes of a file, given by its path or by its bytes.

    Args:
        file: String, path, or bytes-like object.
        argument: String, the argument's name for messages.

    Raises:
        ValueError: If `file` is none of these.
        OSError: If the file cannot be read.
    """
    if isinstance(file, (bytes, bytearray, memoryview)):
        return bytes(file)
    if isinstance(file, (str, os.PathLike)):
        return pathlib.Path(file).read_bytes()
    raise ValueError(
        f"Argument `{argument}` must be the path or the bytes of a TFLite file. "
        f"Received: {argument}={file!r}"
    )


def read_model(content, argument="content", path=None):
    """Returns the schema's `ModelT` of a file.

    Weights stored after the flatbuffer, as in quantized files, are read too. All indices in the
    model refer to something. Bytes behind all this, such as the files of metadata, are its
    attribute `trailing`.

    Args:
        content: Bytes of the file.
        argument: String, the argument's name for messages. Defaults to `"content"`.
        path: The file's path for messages, if it has one. Defaults to `None`.

    Raises:
        ValueError: If the bytes are not a TFLite file, or a damaged one.
    """
    extras.require("export", "ai_edge_litert", "flatbuffers")
    from ai_edge_litert.tools import flatbuffer_utils

    content = read_content(content, argument)
    received = f"{len(content)} bytes" if path is None else repr(os.fspath(path))
    if content[4:8] != b"TFL3":
        raise ValueError(
            f"Argument `{argument}` must be a TFLite file, with 'TFL3' in bytes 4 to 8. "
            f"Received: {received}, which begins with {content[:8]!r}"
        )
    model = _read(CheckedBytes(content), argument, received)
    parse = flatbuffer_utils.convert_bytearray_to_object
    position = find_trailing(content, _end_of_references(model), parse)
    try:
        model = flatbuffer_utils.read_model_from_bytearray(CheckedBytes(content))
    except Exception as error:
        raise _incomplete(argument, received, _cause(error)) from error
    fill_absent_lists(model)
    for buffer in model.buffers:
        if isinstance(buffer.data, bytes):
            buffer.data = np.frombuffer(buffer.data, "uint8")
    model.trailing, model.trailing_position = content[position:], position
    return model


def _read(content, argument, received):
    """Returns the schema's object of a file, provided that it is not damaged."""
    from ai_edge_litert.tools import flatbuffer_utils

    try:
        model = flatbuffer_utils.convert_bytearray_to_object(content)
        fill_absent_lists(model)
        problem = find_problem(model)
    except Exception as error:  # The generated code raises any kind of error on a damaged file.
        raise _incomplete(argument, received, _cause(error)) from error
    if problem:
        raise _incomplete(argument, received, problem)
    return model


def _end_of_references(model):
    """Returns the end of the last weights or options behind the flatbuffer, 0 if there are none."""
    operators = [operator for graph in model.subgraphs for operator in graph.operators]
    ends = [buffer.offset + buffer.size for buffer in model.buffers]
    ends += [op.largeCustomOptionsOffset + op.largeCustomOptionsSize for op in operators]
    return max(ends, default=0)


def _incomplete(argument, received, problem):
    return ValueError(
        f"Argument `{argument}` must be a complete TFLite file. Received: {received}, which is "
        f"damaged: {problem}"
    )


def _cause(error):
    return f"a table of it cannot be read ({type(error).__name__}: {error})"


def write_model(model):
    """Returns the bytes of the file of a `ModelT`, with aligned weights.

    What followed the flatbuffer when the file was read follows it again.

    Args:
        model: A `ModelT` of `read_model`, not changed.
    """
    builder = _sharing_builder()
    buffers = model.buffers
    # The generated code packs bytes without the alignment that the schema asks for.
    model.buffers = [_AlignedBuffer(buffer) for buffer in buffers]
    try:
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    finally:
        model.buffers = buffers
    return append_trailing(bytes(builder.Output()), model.trailing, model.trailing_position)


def _sharing_builder():
    """Returns a builder that stores equal vectors, for example zero points, only once."""
    import flatbuffers

    class SharingBuilder(flatbuffers.Builder):
        def CreateNumpyVector(self, x):  # noqa: N802, the name is that of the builder
            key = x.dtype.str, x.tobytes()
            if key not in written:
                written[key] = super().CreateNumpyVector(x)
            return written[key]

    written = {}
    return SharingBuilder(1024)


class _AlignedBuffer:
    """Stands in for a `Buffer` of the schema and writes its bytes aligned to 16."""

    def __init__(self, buffer):
        self.data = None if buffer.data is None else np.asarray(buffer.data, "uint8")

    def Pack(self, builder):  # noqa: N802, the name is that of the generated code
        from ai_edge_litert import schema_py_generated as schema

        if self.data is not None:
            size = len(self.data)
            builder.StartVector(1, size, ALIGNMENT)
            # The builder's own method for a vector of bytes does not align it.
            builder.head = builder.Head() - size
            builder.Bytes[builder.Head() : builder.Head() + size] = self.data.tobytes()
            data = builder.EndVector()
        schema.BufferStart(builder)
        if self.data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def operator_name(model, operator):
    """Returns the schema's name of an operator, for example `"CONV_2D"`.

    Args:
        model: A `ModelT`.
        operator: An `OperatorT` of it.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)


def dtype_name(tensor):
    """Returns the data type of a `TensorT` as NumPy calls it, for example `"int8"`."""
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.type_to_name(tensor.type).lower()


def stored_values(model, tensor):
    """Returns the values of a constant as the file stores them, flat, or `None`.

    Args:
        model: A `ModelT`.
        tensor: A `TensorT` of it. For a sparse one, only the stored values are returned. Numbers
            of less than a byte become int8 or uint8. For variables, strings and other types that
            NumPy lacks, the result is `None`.
    """
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0:
        # A sparse constant that is all zeros stores no values.
        if tensor.sparsity is None:
            return None
        data = []
    data, name = np.asarray(data, "uint8"), dtype_name(tensor)
    if name in BITS:
        return _unpacked(data, name, None if tensor.sparsity is not None else tensor.shape)
    try:
        return data.view(np.dtype(name))
    except (TypeError, ValueError):
        return None


def _unpacked(data, name, shape):
    """Returns the numbers in bytes that hold several, the lowest bits first. Others are padding."""
    bits = BITS[name]
    at_top = data[:, None] << np.arange(8 - bits, -1, -bits, dtype="uint8")
    values = at_top.reshape(-1).view("uint8" if name[0] == "u" else "int8") >> (8 - bits)
    return values if shape is None else values[: math.prod(shape)]
