"""Reads, changes and writes TFLite files as objects of TFLite's flatbuffer schema."""

import os
import pathlib

import numpy as np

from tf_lottery import extras

ALIGNMENT = 16
# Operators whose second input is a kernel that the runtime accepts in a sparse format.
WEIGHT_OPERATORS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
WEIGHT_INPUT = 1


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

    Weights stored after the flatbuffer, as in quantized files, are read too.

    Args:
        content: Bytes of the file.
        argument: String, the argument's name for messages. Defaults to `"content"`.
        path: The file's path for messages, if it has one. Defaults to `None`.

    Raises:
        ValueError: If the bytes are not a TFLite file.
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
    try:
        _check_end(content)
        model = flatbuffer_utils.read_model_from_bytearray(content)
    except Exception as error:  # The generated code raises any kind of error on a damaged file.
        raise ValueError(
            f"Argument `{argument}` must be a complete TFLite file. Received: {received}, which "
            f"cannot be read ({type(error).__name__}: {error})"
        ) from error
    for buffer in model.buffers:
        if isinstance(buffer.data, bytes):
            buffer.data = np.frombuffer(buffer.data, "uint8")
    return model


def _check_end(content):
    # The reader slices weights outside the flatbuffer, which silently truncates past the end.
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    if any(buffer.Offset() + buffer.Size() > len(content) for buffer in buffers):
        raise EOFError("weights lie beyond its end")


def write_model(model):
    """Returns the bytes of the file of a `ModelT`, with aligned weights.

    Args:
        model: A `ModelT`, not changed.
    """
    builder = _sharing_builder()
    buffers = model.buffers
    # The generated code packs bytes without the alignment that the schema asks for.
    model.buffers = [_AlignedBuffer(buffer) for buffer in buffers]
    try:
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    finally:
        model.buffers = buffers
    return bytes(builder.Output())


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
        tensor: A `TensorT` of it. For a sparse one, only the stored values are returned. For
            variables, strings and types that NumPy lacks, the result is `None`.
    """
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0:
        # A sparse constant that is all zeros stores no values.
        if tensor.sparsity is None:
            return None
        data = []
    try:
        return np.asarray(data, "uint8").view(np.dtype(dtype_name(tensor)))
    except (TypeError, ValueError):
        return None


def operator_code(model, name, version):
    """Returns the index of an operator code, and adds the code if the file lacks it.

    Args:
        model: A `ModelT`.
        name: String, the schema's name.
        version: Integer, of the operator.
    """
    from ai_edge_litert import schema_py_generated as schema

    code = getattr(schema.BuiltinOperator, name)
    for index, entry in enumerate(model.operatorCodes):
        if (entry.builtinCode, entry.version) == (code, version):
            return index
    entry = schema.OperatorCodeT(
        # Old runtimes read this one-byte field; newer codes do not fit into it.
        deprecatedBuiltinCode=min(code, 127),
        builtinCode=code,
        version=version,
    )
    model.operatorCodes.append(entry)
    return len(model.operatorCodes) - 1


def add_buffer(model, values):
    """Adds a constant's values to a file and returns the index of their buffer.

    Args:
        model: A `ModelT`.
        values: NumPy array.
    """
    from ai_edge_litert import schema_py_generated as schema

    data = np.ascontiguousarray(values).reshape(-1).view("uint8")
    model.buffers.append(schema.BufferT(data=data))
    return len(model.buffers) - 1


def drop_unused_buffers(model):
    """Empties the buffers that neither tensors nor metadata refer to.

    Args:
        model: A `ModelT`.
    """
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used.update(entry.buffer for entry in model.metadata or [])
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None
