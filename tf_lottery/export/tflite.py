"""`tfl.export_tflite`: writes a TFLite file after running it and comparing it with Keras."""

import gzip
import os
from typing import Any

import keras

from tf_lottery import extras, files
from tf_lottery._strip import settled
from tf_lottery.checks import choice, natural_number, number_above, positive_integer
from tf_lottery.export import quantization
from tf_lottery.export.associated_files import read_associated_files, with_associated_files
from tf_lottery.export.candidates import GOALS
from tf_lottery.export.given_ranges import fake_quantization_of
from tf_lottery.export.inputs import make_inputs
from tf_lottery.export.inspection import describe
from tf_lottery.export.making import Processes, make_file
from tf_lottery.export.report import ExportReport, StoredFile
from tf_lottery.export.runtimes import resolve
from tf_lottery.export.settings import Settings
from tf_lottery.export.sparse_forms import MAX_SLOWDOWN, check_slowdown
from tf_lottery.model import SparseModel


def export_tflite(
    model: keras.Model,
    path: str | os.PathLike,
    sample_inputs: Any = None,
    quantize: str | None = None,
    storage: str = "auto",
    optimize_for: str = "disk",
    representative_data: Any = None,
    tolerance: float | None = None,
    runs: int = 50,
    seed: int = 0,
    *,
    runtime: str = "litert",
    io_type: str | None = None,
    batch: int | None = None,
    dynamic_shapes: bool = False,
    associated_files: Any = None,
    max_slowdown: float = MAX_SLOWDOWN,
) -> ExportReport:
    """Writes a model to a TFLite file, provided that the file computes what Keras computes.

    The model is stripped, converted and quantized if asked to, and its zeros are left out.
    Every file that could be written runs in a separate process, once with the default
    interpreter and once without delegates. Its outputs are compared with those of Keras in
    inference mode, and its runs are timed. Only then the best file is written to `path`; if
    anything fails, an existing file there stays as it was. The file takes one example at a
    time, because recurrent layers only convert at a fixed batch size, or the model's own fixed
    batch size. Inputs and outputs are those of the model, float32 even if the weights are int8,
    unless `io_type` says otherwise.

    Args:
        model: A `SparseModel` or any built `keras.Model` that takes its inputs as its first
            argument. It is not changed.
        path: String or path of the file. Its folder must exist.
        sample_inputs: Array with a few examples to compare on, or a list or dict of arrays
            for several inputs. They also fix dimensions that the model leaves open. Defaults
            to `None`: the representative data, or else 16 random examples, normally
            distributed, or of 0 and 1 for integer inputs. A subclassed model does not know
            the types of its inputs; it gets floats.
        quantize: `None` for float32; `"float16"`: half the bytes, computed in float32;
            `"weight_int8"`: 8-bit weights with a scale per output, computed in float32;
            `"dynamic_int8"`: the same weights and integer products, with the ranges of
            activations measured at each run; `"int8"`: all integer, with the ranges of
            `tfl.retrain.fake_quantization` if the model has it, and then compared with the
            rounded model; `"int16x8"`: all integer, with 16-bit activations. Defaults to
            `None`, which is `"int8"` on microcontrollers.
        storage: `"sparse"` leaves out the zeros of dense, convolutional and recurrent
            kernels wherever that makes the file smaller, `"dense"` stores all zeros, `"auto"`
            chooses the better of the two. Defaults to `"auto"`.
        optimize_for: What counts as better: fewer bytes on `"disk"`, fewer in a compressed
            `"download"`, or lower `"latency"` on this machine, for which dense, unpacked and
            block-sparse files are timed. Defaults to `"disk"`.
        representative_data: A few hundred typical examples, in the same form as
            `sample_inputs`. Required for `quantize="int8"` and `"int16x8"` and not allowed
            otherwise. Defaults to `None`.
        tolerance: Float, the largest `max|file - keras|` allowed in an output, as a fraction
            of `max|keras|` over all examples or of 1e-6, whichever is larger. Integer
            outputs must be equal. Defaults to `None`: what rounding can cause, 1e-5 for
            float32, 5e-3 for float16, 3e-2 for 8-bit weights (also with 16-bit activations)
            and 0.1 for 8-bit integer products.
            Only the compared inputs are checked; on others, rounding can cause slightly
            larger differences.
        runs: Integer, how often to run each file to measure latency. Defaults to `50`.
        seed: Integer, for random sample inputs. Defaults to `0`.
        runtime: `"litert"`; `"micro"` for TFLite Micro on microcontrollers: all int8, zeros
            stored, only operators that it has; if `tflite-micro` is installed, the file runs in
            its interpreter too, is compared with LiteRT's reference kernels, and the report
            says how much memory it needs; or `"portable"` for other runtimes, such as
            OpenVINO, which read only one sparse form, rows of single elements. Defaults to
            `"litert"`.
        io_type: Type of the inputs and outputs for `quantize="int8"`: `"float32"`, `"int8"` or
            `"uint8"`. Defaults to `None`: `"int8"` on microcontrollers, else `"float32"`.
        batch: Integer, how many examples the file takes at a time. Defaults to `None`: one, or
            the model's own fixed number.
        dynamic_shapes: Boolean, whether the file leaves open how many examples it takes, and
            all other lengths that the model leaves open. Defaults to `False`.
        associated_files: Dict of names to bytes, or list of paths: files such as labels that
            are appended as a ZIP archive, where TFLite's metadata has them. Defaults to `None`.
        max_slowdown: Float of 1 or more. Sparse weights are not taken for their size by
            `storage="auto"` if the file then runs longer than this times the dense one.
            `math.inf` takes the smallest file at any cost. Defaults to `1.5`.

    Returns:
        An `ExportReport`.

    Raises:
        ValueError: If an argument is outside its range, the model is not built or the
            combination of precision, storage and model cannot work.
        OSError: If no file can be written at `path`.
        RuntimeError: If the backend is not TensorFlow.
        ExportError: If the converter refuses the model or crashes, if no file runs and agrees
            with Keras, or if TFLite Micro cannot run it. It is a `RuntimeError`.

    Example:

    >>> report = tfl.export_tflite(sparse, "model.tflite", x_test[:8])
    >>> report.relative_difference < 1e-5
    True
    >>> small = tfl.export_tflite(sparse, "small.tflite", x_test[:8], quantize="weight_int8")
    >>> small.relative_difference < 0.03
    True
    """
    plain = _check_arguments(model, path, storage, optimize_for)
    quantize, storage, io_type = resolve(runtime, quantize, storage, io_type, dynamic_shapes)
    choice("quantize", quantize, tuple(quantization.TOLERANCES))
    positive_integer("runs", runs)
    natural_number("seed", seed)
    check_slowdown(max_slowdown)
    if batch is not None:
        positive_integer("batch", batch)
    tolerance = quantization.TOLERANCES[quantize] if tolerance is None else tolerance
    number_above("tolerance", tolerance, 0)
    attached = read_associated_files(associated_files)
    inputs, typical = _make_inputs(
        plain, sample_inputs, representative_data, seed, batch, dynamic_shapes
    )
    settings = Settings(
        quantize, storage, optimize_for, tolerance, runs, runtime, io_type, max_slowdown
    )
    with files.atomic_path(path) as temporary, settled(model), Processes() as processes:
        files.sweep(temporary.parent)
        quantization.check_combination(plain, quantize, storage, representative_data, io_type)
        is_rounded = fake_quantization_of(model, quantize) is not None
        rounded = model if is_rounded else None
        made = make_file(plain, inputs, typical, settings, processes, rounded)
        written = with_associated_files(made.best.content, attached)
        temporary.write_bytes(written)
    return _report(made, settings, written, attached, os.fspath(path))


def _report(made, settings, written, attached, path):
    """Returns the `ExportReport` of a written file."""
    file = describe(written, path, len(gzip.compress(written, 9)))
    dense_file = file
    if made.best.storage != "dense":
        dense_file = describe(with_associated_files(made.content, attached))
    is_chosen = settings.storage == "auto" or settings.runtime == "micro" or made.best.form
    return ExportReport(
        path=path,
        quantize=settings.quantize,
        storage=made.best.storage,
        reason=made.reason if is_chosen else "as asked for",
        floor_bytes=dense_file.floor_bytes,
        max_difference=made.best.verdict.difference,
        relative_difference=made.best.verdict.relative_difference,
        latency_ms=made.milliseconds[made.best.name],
        dense=StoredFile(len(made.original), made.original_gzip, made.milliseconds["original"]),
        file=file,
        runtime=settings.runtime,
        io_type=settings.io_type,
        arena_bytes=made.micro.arena_bytes,
        micro_steps=made.micro.steps,
    )


def _check_arguments(model, path, storage, optimize_for):
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "`export_tflite` needs Keras on TensorFlow, as TFLite's converter does. Save the "
            "model with `model.save(FILE)` and run `KERAS_BACKEND=tensorflow tf-lottery export "
            f"FILE`. Received: keras.backend.backend()={keras.backend.backend()!r}"
        )
    extras.require("export", "tensorflow", "ai_edge_litert", "ai_edge_quantizer", "flatbuffers")
    plain = model.model if isinstance(model, SparseModel) else model
    if isinstance(model, (dict, list, tuple)):
        raise ValueError(
            "Argument `model` must be one model, since a file has one signature here: export each "
            "to a file of its own, or write several signatures with `keras.export.ExportArchive`, "
            "convert them with `tf.lite.TFLiteConverter.from_saved_model` and pass the bytes to "
            f"`tfl.export.sparsify_flatbuffer`. Received: model of type {type(model).__name__}"
        )
    if not isinstance(plain, keras.Model) or not plain.built:
        raise ValueError(
            "Argument `model` must be a `SparseModel` or a built `keras.Model`: start it with a "
            f"`keras.Input` or call it on a batch. Received: {model!r}"
        )
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"Argument `path` must be a string or a path. Received: path={path!r}")
    choice("storage", storage, quantization.STORAGES)
    choice("optimize_for", optimize_for, GOALS)
    return plain


def _make_inputs(model, sample_inputs, representative_data, seed, batch, dynamic_shapes):
    """Returns the sample inputs, and the representative ones or `None`."""
    typical, shape = None, {"batch": batch, "dynamic_shapes": dynamic_shapes}
    if representative_data is not None:
        typical = make_inputs(model, representative_data, seed, "representative_data", **shape)
        if sample_inputs is None:
            return typical, typical
    inputs = make_inputs(model, sample_inputs, seed, "sample_inputs", **shape)
    shapes = [[x.shape[1:] for x in each.arrays] for each in (inputs, typical or inputs)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "Argument `representative_data` must have examples of the same shapes as "
            f"`sample_inputs`, {shapes[0]}. Received: {shapes[1]}"
        )
    return inputs, typical
