"""The report that an export returns about the file it wrote."""

import dataclasses

from tf_lottery.export.file_report import FileReport
from tf_lottery.export.runtimes import UNCHECKED
from tf_lottery.printable import Printable, plain_table

# A file this many times slower than the float32 one gets a hint; less is noise.
SLOWER = 1.2


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """Size and speed of a TFLite file.

    Args:
        num_bytes: Integer, the size of the file.
        gzip_bytes: Integer, its size after `gzip -9`, the size of a download.
        latency_ms: Float, median milliseconds of a run on one thread of this machine.
    """

    num_bytes: int
    gzip_bytes: int
    latency_ms: float


@dataclasses.dataclass(frozen=True)
class ExportReport(Printable):
    """The file that `tfl.export_tflite` wrote: its size, speed and difference from Keras.

    Printing it shows a table; `to_dict()` gives plain numbers.

    Args:
        path: String, the path of the file.
        quantize: The precision, as passed to `tfl.export_tflite`.
        storage: `"sparse"` or `"dense"`.
        reason: String, why this storage was chosen.
        floor_bytes: Integer, the size of the file if the weights took only the bytes of the
            non-zero ones, in this precision, and the entropy of their positions; see
            `tf_lottery.export.TensorRow`.
        max_difference: Float, the largest absolute difference from Keras in any output.
        relative_difference: Float, the largest difference as a fraction of the largest
            value of its output in Keras.
        latency_ms: Float, median milliseconds of a run on one thread, with one example or the
            model's fixed batch size.
        dense: `StoredFile`, the model in float32 with all zeros stored. Its runs alternated
            with those of the file.
        file: `FileReport`, every constant of the file and how it is stored.
        runtime: String, as passed to `tfl.export_tflite`. Defaults to `"litert"`.
        io_type: String, the type of inputs and outputs. Defaults to `"float32"`.
        arena_bytes: Integer, the memory that the file needs on a microcontroller besides its
            own bytes, `None` if it did not run in TFLite Micro. Defaults to `None`.
        micro_steps: Integer, the largest difference of TFLite Micro from LiteRT's reference
            kernels in an output, in steps of its scale, or `None`. Defaults to `None`.
    """

    path: str
    quantize: str | None
    storage: str
    reason: str
    floor_bytes: int
    max_difference: float
    relative_difference: float
    latency_ms: float
    dense: StoredFile
    file: FileReport
    runtime: str = "litert"
    io_type: str = "float32"
    arena_bytes: int | None = None
    micro_steps: int | None = None

    @property
    def hint(self) -> str:
        """What to change if the file is slower than the float32 one, or `""`."""
        slower = self.latency_ms / self.dense.latency_ms if self.dense.latency_ms else 1.0
        if slower < SLOWER or self.quantize not in ("dynamic_int8", "int8", "int16x8"):
            return ""
        return (
            f"{self.quantize} takes {slower:.2f} times as long as float32 here: "
            "quantize='weight_int8' is as small and computes in float32"
        )

    @property
    def not_checked(self) -> str:
        """Where the file was not run before it was written, a sentence without a full stop."""
        if self.runtime == "micro" and self.arena_bytes is None:
            return "TFLite Micro itself, since `tflite-micro` is not installed"
        return UNCHECKED[self.runtime]

    @property
    def num_bytes(self) -> int:
        """The size of the file."""
        return self.file.num_bytes

    @property
    def gzip_bytes(self) -> int | None:
        """The size of the file after `gzip -9`."""
        return self.file.gzip_bytes

    @property
    def stored_sparsity(self) -> float:
        """The fraction of weights, biases included, that the file does not store.

        Zeros in the file count as stored.
        """
        return self.file.stored_sparsity

    @property
    def ratio(self) -> float:
        """The size of the file as a fraction of the float32 file with all zeros stored."""
        return self.num_bytes / self.dense.num_bytes

    def to_dict(self) -> dict:
        """Returns the report as a dict of plain values, fit for JSON."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "file"]
        names += ["num_bytes", "gzip_bytes", "stored_sparsity", "ratio", "not_checked", "hint"]
        values = {name: getattr(self, name) for name in names}
        tensors = self.file.to_dict()["tensors"]
        return {**values, "dense": dataclasses.asdict(self.dense), "tensors": tensors}

    def __rich__(self):
        title = (
            f"{self.path}\n{self.stored_sparsity:.2%} of the weights left out\n"
            f"at most {self.max_difference:.1e} from Keras, {self.relative_difference:.1e} of "
            f"the largest output\n{self.storage}: {self.reason}"
        )
        table = plain_table(title=title, title_justify="left")
        table.add_column("File")
        for heading in ("Bytes", "After gzip", "Milliseconds"):
            table.add_column(heading, justify="right")
        name = f"{self.storage} {self.quantize or 'float32'} (written)"
        for label, file in ((name, self), ("dense float32", self.dense)):
            size, zipped = f"{file.num_bytes:,}", f"{file.gzip_bytes:,}"
            table.add_row(label, size, zipped, f"{file.latency_ms:.4f}")
        table.add_row(
            "ratio",
            f"{self.ratio:.3f}",
            f"{self.gzip_bytes / self.dense.gzip_bytes:.3f}",
            f"{self.latency_ms / self.dense.latency_ms:.3f}",
        )
        table.add_row("entropy floor, single zeros", f"{self.floor_bytes:,}")
        if self.arena_bytes is not None:
            table.add_row("memory on the device", f"{self.arena_bytes:,}")
        notes = [f"Not run on: {self.not_checked}", *([self.hint] if self.hint else [])]
        table.caption, table.caption_justify = "\n".join(notes), "left"
        return table
