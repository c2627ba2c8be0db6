"""What an export found out about the file it wrote."""

import dataclasses

from tf_lottery.printable import Printable


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """Size and speed of a TFLite file.

    Args:
        num_bytes: Integer, the size of the file.
        gzip_bytes: Integer, its size after `gzip -9`: what a download costs.
        latency_ms: Float, median milliseconds of a run on one thread of this machine.
    """

    num_bytes: int
    gzip_bytes: int
    latency_ms: float


@dataclasses.dataclass(frozen=True)
class ExportReport(Printable):
    """What `tfl.export_tflite` wrote.

    Printing it shows a table; `to_dict()` gives plain numbers.

    Args:
        path: String, where the file is.
        storage: `"sparse"` or `"dense"`.
        num_bytes: Integer, the size of the file.
        gzip_bytes: Integer, its size after `gzip -9`.
        stored_sparsity: Float, the fraction of floating-point constants, biases included,
            that the file leaves out. Zeros that it stores count as stored.
        max_difference: Float, the largest absolute difference from Keras in any output.
        latency_ms: Float, median milliseconds of a run at batch size 1 on one thread.
        dense: `StoredFile`, the same model stored dense and run in turns with the file.
    """

    path: str
    storage: str
    num_bytes: int
    gzip_bytes: int
    stored_sparsity: float
    max_difference: float
    latency_ms: float
    dense: StoredFile

    @property
    def ratio(self):
        """The size of the file as a fraction of the dense-stored one's."""
        return self.num_bytes / self.dense.num_bytes

    def to_dict(self):
        """Returns the report as a dict of plain values, fit for JSON."""
        return {**dataclasses.asdict(self), "ratio": self.ratio}

    def __rich__(self):
        from rich.table import Table

        title = (
            f"{self.path}\n{self.stored_sparsity:.2%} of the weights left out\n"
            f"at most {self.max_difference:.1e} from Keras"
        )
        table = Table(title=title, title_justify="left")
        table.add_column("Storage")
        for heading in ("Bytes", "After gzip", "Milliseconds"):
            table.add_column(heading, justify="right")
        for name, file in ((f"{self.storage} (written)", self), ("dense", self.dense)):
            size, zipped = f"{file.num_bytes:,}", f"{file.gzip_bytes:,}"
            table.add_row(name, size, zipped, f"{file.latency_ms:.4f}")
        table.add_row(
            "ratio",
            f"{self.ratio:.3f}",
            f"{self.gzip_bytes / self.dense.gzip_bytes:.3f}",
            f"{self.latency_ms / self.dense.latency_ms:.3f}",
        )
        return table
