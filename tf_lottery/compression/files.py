"""Makes the files of one network, and measures their accuracy."""

import dataclasses
import os
import pathlib

from tf_lottery import files
from tf_lottery.export import quantization
from tf_lottery.export.conversion import convert, keras_outputs
from tf_lottery.export.making import make_file
from tf_lottery.export.settings import Settings
from tf_lottery.export.verification import outputs_of


@dataclasses.dataclass(frozen=True)
class CompressedFile:
    """A TFLite file that a compression has made, run and measured.

    Args:
        name: String, the name of the file in the folder of the compression.
        structure: String: `"dense"`, `"channel"` or the pattern of the zeros.
        sparsity: Float, the fraction of zeros or, for channels, of what was removed.
        finetuned: Whether the network was trained further, instead of repaired.
        precision: String, as `quantize` of `tfl.export_tflite`, and `"float32"`.
        storage: `"sparse"` or `"dense"`.
        accuracy: Float, that of the file on the validation data.
        num_bytes: Integer, the size of the file.
        latency_ms: Float, median milliseconds of a run on one thread of this machine.
        flops: Number, the FLOPs of an example without products with zeros, as `tfl.flops` counts
            them, or `None` if it cannot.
    """

    name: str
    structure: str
    sparsity: float
    finetuned: bool
    precision: str
    storage: str
    accuracy: float
    num_bytes: int
    latency_ms: float
    flops: float | None


class FileMaker:
    """Makes files of one network, which is converted once.

    Args:
        model: A plain `keras.Model`.
        samples: `Inputs` on which every file is compared with Keras.
        typical: `Inputs`, the representative data of integer arithmetic.
        goal: String, `optimize_for` of `tfl.export_tflite`.
        runs: Integer, how often a file is run to time it.
        processes: `Processes`.
    """

    def __init__(self, model, samples, typical, goal, runs, processes):
        self.model, self.samples, self.typical = model, samples, typical
        self.goal, self.runs, self.processes = goal, runs, processes
        self._original = None

    def make(self, precision, path):
        """Writes a file, after it was run and compared with Keras.

        Args:
            precision: String, of `grid.PRECISIONS`.
            path: The file to write.

        Returns:
            Pair of the storage and the milliseconds of a run.

        Raises:
            ExportError: If no file runs and agrees with Keras.
            ValueError: If the model cannot have this precision.
            OSError: If the file cannot be written.
        """
        quantize = None if precision == "float32" else precision
        typical = self.typical if quantize in quantization.INTEGER else None
        quantization.check_combination(self.model, quantize, "auto", typical)
        if self._original is None:
            names = list(keras_outputs(self.model, self.samples))
            converter = self.processes.converter
            self._original = convert(self.model, self.samples, names, process=converter)
        settings = Settings(
            quantize=quantize,
            optimize_for=self.goal,
            tolerance=quantization.TOLERANCES[quantize],
            runs=self.runs,
        )
        made = make_file(
            self.model, self.samples, typical, settings, self.processes, original=self._original
        )
        with files.atomic_path(path) as temporary:
            temporary.write_bytes(made.best.content)
        return made.best.storage, made.milliseconds[made.best.name]


def file_accuracy(path: str | os.PathLike, examples, accuracy, process=None) -> float:
    """Returns the accuracy of a file.

    Args:
        path: The file.
        examples: `Examples`.
        accuracy: The result of `make_measure`.
        process: The process of `interpreter_process`. Defaults to `None`: a new one.

    Raises:
        ExportError: If the file does not run.
    """
    content = pathlib.Path(path).read_bytes()
    (outputs,) = outputs_of(content, examples.inputs, process=process).values()
    return accuracy(outputs)
