"""`tfl.inspect_tflite`: lists what a TFLite file stores, and in which format."""

import dataclasses
import gzip
import math
import os

import numpy as np

from tf_lottery.export import flatbuffer
from tf_lottery.export.sparse_encoding import decode, from_parameters
from tf_lottery.printable import Printable

WEIGHT_DTYPES = ("float32", "float16", "int8")


@dataclasses.dataclass(frozen=True)
class TensorRow:
    """One constant of a TFLite file.

    Args:
        name: String, the tensor's name.
        operator: String, the operator that reads it, `""` if none does.
        shape: Tuple of integers.
        dtype: String, for example `"int8"`.
        storage: String: `"dense"`, or the sparse format (`"CSR"`; `"CSC"`, by columns;
            `"blocks of 4"`) and its use (`"unpacked at load"`, `"multiplied as they are"`).
        num_stored: Integer, the number of elements in the file, zeros in blocks included.
        nonzeros: Integer, the number of elements that are not zero.
        num_bytes: Integer, the bytes of elements and positions.
    """

    name: str
    operator: str
    shape: tuple
    dtype: str
    storage: str
    num_stored: int
    nonzeros: int
    num_bytes: int

    @property
    def size(self):
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def sparsity(self):
        """The fraction of zeros."""
        return 1.0 - self.nonzeros / self.size if self.size else 0.0

    @property
    def dense_bytes(self):
        """The size in bytes with all zeros stored."""
        return self.size * np.dtype(self.dtype).itemsize

    @property
    def floor_bytes(self):
        """A lower bound of the bytes: the non-zero elements plus the entropy of their positions.

        No lossless code takes fewer bytes if zeros are placed independently at random. If dense
        storage is smaller, its size is returned.
        """
        density = 1.0 - self.sparsity
        bits = sum(-p * math.log2(p) for p in (density, 1.0 - density) if p > 0)
        values = self.nonzeros * np.dtype(self.dtype).itemsize
        return min(math.ceil(values + self.size * bits / 8), self.dense_bytes)


@dataclasses.dataclass(frozen=True)
class FileReport(Printable):
    """The constants of a TFLite file and how they are stored.

    Printing it shows a table; `to_dict()` gives plain numbers.

    Args:
        name: String, what to call the file.
        num_bytes: Integer, its size.
        gzip_bytes: Integer, its size after `gzip -9`, the size of a download.
        rows: List of `TensorRow`. A constant that several tensors share is listed once.
    """

    name: str
    num_bytes: int
    gzip_bytes: int
    rows: list

    @property
    def floor_bytes(self):
        """The size of the file if every constant took its `TensorRow.floor_bytes`.

        The rest of the file keeps its size.
        """
        return self.num_bytes - sum(row.num_bytes - row.floor_bytes for row in self.rows)

    @property
    def stored_sparsity(self):
        """The fraction of weights, biases included, that the file does not store."""
        weights = [row for row in self.rows if row.dtype in WEIGHT_DTYPES]
        size = sum(row.size for row in weights)
        return 1.0 - sum(row.num_stored for row in weights) / size if size else 0.0

    def to_dict(self):
        """Returns the report as a dict of plain values, fit for JSON."""
        rows = [
            {**dataclasses.asdict(row), "shape": list(row.shape), "sparsity": row.sparsity}
            for row in self.rows
        ]
        names = ("name", "num_bytes", "gzip_bytes", "floor_bytes", "stored_sparsity")
        return {**{name: getattr(self, name) for name in names}, "tensors": rows}

    def __rich__(self):
        from rich.table import Table

        title = (
            f"{self.name}: {self.num_bytes:,} bytes, {self.gzip_bytes:,} after gzip\n"
            f"{self.stored_sparsity:.2%} of the weights left out"
        )
        table = Table(title=title, title_justify="left")
        table.add_column("Tensor", overflow="fold")
        for heading in ("Read by", "Shape", "Type", "Stored"):
            table.add_column(heading, overflow="fold")
        table.add_column("Sparsity", justify="right")
        table.add_column("Bytes", justify="right")
        for row in self.rows:
            shape = " x ".join(map(str, row.shape))
            numbers = f"{row.sparsity:.2%}", f"{row.num_bytes:,}"
            # The converter joins the names of all operations that it merged.
            name = row.name.split(";")[-1]
            table.add_row(name, row.operator, shape, row.dtype, row.storage, *numbers)
        return table


def inspect_tflite(file: str | os.PathLike | bytes) -> FileReport:
    """Lists the constants of a TFLite file: how each is stored, its sparsity and bytes.

    Args:
        file: Path of the file, or its bytes. Files made by other converters are read too.

    Returns:
        A `FileReport`.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is not a TFLite file.

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
        gzip_bytes=len(gzip.compress(content, 9)),
        rows=rows,
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
    array = constant(model, tensor)
    if array is None:
        return None
    reader = next((op for op in graph.operators if index in op.inputs), None)
    unpacks = reader is not None and flatbuffer.operator_name(model, reader) == "DENSIFY"
    name = tensor.name
    if unpacks:
        index = reader.outputs[0]
        name = graph.tensors[index].name
        reader = next((op for op in graph.operators if index in op.inputs), None)
    storage, num_bytes = "dense", array.nbytes
    values = flatbuffer.stored_values(model, tensor)
    if tensor.sparsity is not None:
        encoding = from_parameters(tensor.sparsity, array.shape, values)
        positions = "CSR" if encoding.order[-1] == array.ndim - 1 else "CSC"
        positions = positions if encoding.block == 1 else f"blocks of {encoding.block}"
        storage = f"{positions}, {'unpacked at load' if unpacks else 'multiplied as they are'}"
        num_bytes = encoding.num_bytes
    return TensorRow(
        name=(name or b"").decode(errors="replace"),
        operator=flatbuffer.operator_name(model, reader) if reader is not None else "",
        shape=array.shape,
        dtype=array.dtype.name,
        storage=storage,
        num_stored=values.size,
        nonzeros=int(np.count_nonzero(array)),
        num_bytes=num_bytes,
    )
