"""The report of `tfl.inspect_tflite`."""

import dataclasses
import math
from typing import Any

import numpy as np

from tf_lottery.export.flatbuffer import BITS
from tf_lottery.printable import Printable, plain_table

# How many tensors are printed unless all are asked for.
NUM_LARGEST = 12


@dataclasses.dataclass(frozen=True)
class TensorRow:
    """One constant of a TFLite file.

    Args:
        name: String, the tensor's name.
        operator: String, the operator that computes with it, `""` if none does. Operators that
            only unpack it are skipped.
        shape: Tuple of integers.
        dtype: String, for example `"int8"`.
        storage: String: `"dense"`, or the sparse format (`"CSR"`; `"CSC"`, by columns;
            `"blocks of 4"`) and its use (`"unpacked at load"`, `"multiplied as they are"`).
        num_stored: Integer, the number of elements in the file, zeros in blocks included.
        nonzeros: Integer, the number of elements that are not zero.
        num_bytes: Integer, the bytes of elements and positions.
        is_weight: Boolean, `False` for shapes, axes, paddings and the like. Defaults to `True`.
    """

    name: str
    operator: str
    shape: tuple
    dtype: str
    storage: str
    num_stored: int
    nonzeros: int
    num_bytes: int
    is_weight: bool = True

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def sparsity(self) -> float:
        """The fraction of zeros."""
        return 1.0 - self.nonzeros / self.size if self.size else 0.0

    @property
    def dense_bytes(self) -> int:
        """The size in bytes with all zeros stored."""
        return math.ceil(self.size * self._bits / 8)

    @property
    def floor_bytes(self) -> int:
        """A lower bound of the bytes: the non-zero elements plus the entropy of their positions.

        No lossless code takes fewer bytes if zeros are placed independently at random. If dense
        storage is smaller, its size is returned.
        """
        density = 1.0 - self.sparsity
        bits = sum(-p * math.log2(p) for p in (density, 1.0 - density) if p > 0)
        bits = self.nonzeros * self._bits + self.size * bits
        return min(math.ceil(bits / 8), self.dense_bytes)

    @property
    def _bits(self):
        return BITS.get(self.dtype) or 8 * np.dtype(self.dtype).itemsize


@dataclasses.dataclass(frozen=True)
class FileReport(Printable):
    """The constants of a TFLite file and how they are stored.

    Printing it shows totals and the largest weights; `to_table(verbose=True)` shows all;
    `to_dict()` gives plain numbers.

    Args:
        name: String, what to call the file.
        num_bytes: Integer, its size.
        gzip_bytes: Integer, its size after `gzip -9`, the size of a download. `None` for files
            above 5 MB, which take long to compress.
        rows: List of `TensorRow`. A constant that several tensors share is listed once.
        trailing_bytes: Integer, how many of the bytes follow the flatbuffer, such as the label
            files of its metadata. Defaults to `0`.
    """

    name: str
    num_bytes: int
    gzip_bytes: int | None
    rows: list
    trailing_bytes: int = 0

    @property
    def weights(self) -> list[TensorRow]:
        """List of the `TensorRow`s of weights, biases included, the largest first."""
        weights = [row for row in self.rows if row.is_weight]
        return sorted(weights, key=lambda row: -row.num_bytes)

    @property
    def num_weights(self) -> int:
        """The number of weights, biases included."""
        return sum(row.size for row in self.weights)

    @property
    def weight_bytes(self) -> int:
        """The bytes of all weights and of the positions of sparse ones."""
        return sum(row.num_bytes for row in self.weights)

    @property
    def sparsity(self) -> float:
        """The fraction of weights, biases included, that are zero, stored or not."""
        nonzeros = sum(row.nonzeros for row in self.weights)
        return 1.0 - nonzeros / self.num_weights if self.num_weights else 0.0

    @property
    def floor_bytes(self) -> int:
        """The size of the file if every constant took its `TensorRow.floor_bytes`.

        The rest of the file keeps its size.
        """
        return self.num_bytes - sum(row.num_bytes - row.floor_bytes for row in self.rows)

    @property
    def stored_sparsity(self) -> float:
        """The fraction of weights, biases included, that the file does not store."""
        stored = sum(row.num_stored for row in self.weights)
        return 1.0 - stored / self.num_weights if self.num_weights else 0.0

    def to_dict(self) -> dict:
        """Returns the report as a dict of plain values, fit for JSON."""
        rows = [
            {**dataclasses.asdict(row), "shape": list(row.shape), "sparsity": row.sparsity}
            for row in self.rows
        ]
        names = ("name", "num_bytes", "gzip_bytes", "floor_bytes", "stored_sparsity")
        names += ("num_weights", "weight_bytes", "sparsity", "trailing_bytes")
        return {**{name: getattr(self, name) for name in names}, "tensors": rows}

    def to_table(self, verbose: bool = False) -> Any:
        """Returns what printing shows: totals and a table.

        Args:
            verbose: Boolean, whether to list every tensor, not only the largest weights.
                Defaults to `False`.
        """
        from rich import box
        from rich.console import Group

        table = plain_table(box=box.SIMPLE_HEAD)
        table.add_column("Tensor, read by", overflow="fold")
        table.add_column("Stored", overflow="fold")
        table.add_column("Zeros", justify="right", no_wrap=True)
        table.add_column("Bytes", justify="right", no_wrap=True)
        constants = [row for row in self.rows if not row.is_weight]
        shown = [*self.weights, *constants] if verbose else self.weights[:NUM_LARGEST]
        for row in shown:
            # The converter joins the names of all operations that it merged.
            first = row.name.split(";")[-1] or "(no name)"
            second = f"{row.operator or 'nothing'}, {' x '.join(map(str, row.shape)) or 'scalar'}"
            stored = row.storage.replace(", ", ",\n")
            table.add_row(
                f"{first}\n{second}",
                f"{row.dtype}, {stored}",
                f"{row.sparsity:.2%}",
                f"{row.num_bytes:,}",
            )
        if not verbose:
            _add_rest(table, self.weights[NUM_LARGEST:], "smaller (-v: all)")
            _add_rest(table, constants, "shapes, axes etc.")
        return Group(self._totals(), table)

    def _totals(self):
        share = self.weight_bytes / self.num_bytes
        zipped = "" if self.gzip_bytes is None else f", {self.gzip_bytes:,} after gzip"
        lines = [
            f"{self.name}: {self.num_bytes:,} bytes{zipped}",
            f"{self.num_weights:,} weights, {self.sparsity:.2%} of them zero, in "
            f"{self.weight_bytes:,} bytes ({share:.0%} of the file)",
            f"{self.stored_sparsity:.2%} of the weights left out",
        ]
        if self.trailing_bytes:
            lines.append(f"{self.trailing_bytes:,} bytes of associated files behind the network")
        return "\n".join(lines)

    def __rich__(self):
        return self.to_table()


def _add_rest(table, rows, kind):
    if rows:
        table.add_row(f"{len(rows)} {kind}", "", "", f"{sum(row.num_bytes for row in rows):,}")
