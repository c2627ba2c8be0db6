"""Makes the files of an export, compares and times them, and chooses the best."""

import concurrent.futures
import contextlib
import dataclasses
import gzip

from tf_lottery.export import conversion, micro, quantization
from tf_lottery.export.candidates import Candidate, choose, make_candidates
from tf_lottery.export.conversion import convert, keras_outputs
from tf_lottery.export.errors import ExportError
from tf_lottery.export.given_ranges import fake_quantization_of, take_ranges
from tf_lottery.export.verification import interpreter_process, latencies

MICRO_REASON = "TFLite Micro reads no sparse weights; int8 and fewer channels save bytes there"


@dataclasses.dataclass(frozen=True)
class Made:
    """The files of an export.

    Args:
        original: Bytes of the float32 file with all zeros stored.
        original_gzip: Integer, its size after `gzip -9`.
        content: Bytes of the quantized file with all zeros stored.
        best: `Candidate`, the file to write.
        reason: String, why it is the best.
        milliseconds: Dict of names of candidates and `"original"` to latencies.
        micro: `MicroRun`.
    """

    original: bytes
    original_gzip: int
    content: bytes
    best: Candidate
    reason: str
    milliseconds: dict
    micro: micro.MicroRun


class Processes(contextlib.ExitStack):
    """The processes in which files are made and run, for use in a `with` block.

    They can be used for several files, so that what they import is imported once. Each starts when
    it is needed.

    Attributes:
        converter: `KeptProcess`, which converts models.
        quantizer: `KeptProcess`, which quantizes files.
        interpreter: `KeptProcess`, which runs and times files.
    """

    def __init__(self):
        super().__init__()
        self.converter = self.enter_context(conversion.converter_process())
        self.quantizer = self.enter_context(quantization.quantizer_process())
        self.interpreter = self.enter_context(interpreter_process())


def make_file(model, inputs, typical, settings, processes, rounded=None, original=None):
    """Makes every file that could be written and chooses the best.

    Args:
        model: A plain `keras.Model`.
        inputs: `Inputs` to compare on.
        typical: `Inputs`, the representative data, or `None`.
        settings: `Settings`.
        processes: `Processes`.
        rounded: The `SparseModel` around it if its `FakeQuantization` has the ranges of the
            file, which is then compared with it. Defaults to `None`.
        original: Bytes of the model's float32 file, if it was converted before. Defaults to
            `None`.

    Returns:
        `Made`.

    Raises:
        ExportError: If no file runs and agrees with Keras.
    """
    expected = keras_outputs(rounded or model, inputs)
    tweak = fake_quantization_of(rounded, settings.quantize)
    if original is None:
        original = convert(model, inputs, list(expected), tweak, processes.converter)
    # Only then: a layer of the user's may have the same operators.
    original, ranges = (original, {}) if tweak is None else take_ranges(original)
    micro_run, process = micro.MicroRun(), processes.interpreter
    # Compressed while another process quantizes and runs files, but not while they are timed.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        zipped = thread.submit(gzip.compress, original, 9)
        content = quantization.quantized(
            original, settings.quantize, typical, settings.io_type, ranges, processes.quantizer
        )
        candidates = make_candidates(content, inputs, expected, settings, process)
        right = {c.name: c.content for c in candidates if not c.verdict.problem}
        if not right:
            _refuse(candidates, model, settings)
        if settings.runtime == "micro":
            micro_run = micro.check(content, inputs, process)
        original_gzip = len(zipped.result())
        files = {**right, "original": original}
        milliseconds = latencies(files, inputs, settings.runs, process)
    best, reason = choose(candidates, settings.optimize_for, milliseconds, settings.max_slowdown)
    reason = MICRO_REASON if settings.runtime == "micro" else reason
    return Made(original, original_gzip, content, best, reason, milliseconds, micro_run)


def _refuse(candidates, model, settings):
    problem = " ".join(f"{c.name.capitalize()}: {c.verdict.problem}" for c in candidates)
    advice = "Nothing was written."
    if settings.io_type != "float32":
        # Integer inputs and outputs, and so microcontrollers, have no other precision.
        advice += (
            " If the difference is due to rounding, pass a larger `tolerance`, or more "
            "`representative_data`."
        )
    elif settings.quantize is not None:
        finer = {"int8": "int16x8", "int16x8": "weight_int8", "dynamic_int8": "weight_int8"}
        nearest = finer.get(settings.quantize)
        advice += (
            f" If the difference is due to rounding, pass a larger `tolerance`, or "
            f"quantize={nearest!r}, which is more precise."
        )
    raise ExportError(
        f"{problem} {advice} Received: model={model.name!r}, quantize={settings.quantize!r}, "
        f"storage={settings.storage!r}, tolerance={settings.tolerance}",
        problem,
    )
