"""The TFLite file of a finished run: compacted, compared with Keras, timed and evaluated."""

import pathlib

import keras
import numpy as np

from tf_lottery.experiments.folder_lock import locked
from tf_lottery.experiments.labels import are_logits, predicted
from tf_lottery.experiments.model_file import file_digest, load_model
from tf_lottery.experiments.run_folder import read_json, write_json
from tf_lottery.export import compact, export_tflite, quantization
from tf_lottery.export.inputs import make_inputs
from tf_lottery.export.verification import outputs_of

FILES = ("exported.json", "exported.tflite")
RESULTS = ("file_bytes", "file_accuracy", "file_milliseconds")
# The names of the precisions: those of `export_tflite`, and one for files that are not quantized.
PRECISIONS = tuple(name or "float32" for name in quantization.TOLERANCES)
# How many examples the file is compared on, and how many show integers the ranges of activations.
_NUM_COMPARED, _NUM_TYPICAL = 32, 300


def export_run(directory, data, precision="float32"):
    """Writes the file of a finished run, unless it is there, and measures it.

    Dead units are removed first, and zeros are left out where that makes the file smaller.

    Args:
        directory: The folder of the run, with a `model.keras`, for `exported.tflite` and
            `exported.json`. A file of another network or precision is replaced.
        data: `Data`.
        precision: A name in `PRECISIONS`. Defaults to `"float32"`.

    Returns:
        Dict of `file_bytes`; `file_accuracy`, that of the file itself on the test examples; and
        `file_milliseconds`, the median of its runs with one example on one thread.

    Raises:
        ValueError: If another process works in the folder, or the network cannot be exported.
        OSError: If a file cannot be read or written.
        ExportError: If the file does not run or agree with Keras. It is a `RuntimeError`.
        RuntimeError: If the backend is not TensorFlow.
    """
    directory = pathlib.Path(directory)
    with locked(directory):
        if results := read_export(directory, precision):
            return results
        trained = load_model(directory / "model.keras", compiled=True)
        model = _compacted(trained)
        path, (x, labels) = directory / "exported.tflite", data.test
        typical = _first(data.train[0], _NUM_TYPICAL) if precision in quantization.INTEGER else None
        report = export_tflite(
            model,
            path,
            _first(x, _NUM_COMPARED),
            None if precision == "float32" else precision,
            representative_data=typical,
        )
        (outputs,) = outputs_of(path.read_bytes(), make_inputs(model, x, seed=0)).values()
        threshold = 0.0 if are_logits(trained, outputs) else 0.5
        results = {
            "file_bytes": report.num_bytes,
            "file_accuracy": float(np.mean(predicted(outputs, threshold) == labels)),
            "file_milliseconds": report.latency_ms,
        }
        settings = {"precision": precision, "model": _digest(directory)}
        write_json(directory / "exported.json", {"settings": settings, **results})
    return results


def read_export(directory, precision="float32"):
    """Returns what `export_run` found, or `None` if the file is not that of the finished run.

    Args:
        directory: The folder of the run.
        precision: A name in `PRECISIONS`. Defaults to `"float32"`.

    Raises:
        ValueError: If `exported.json` is damaged.
        OSError: If it cannot be read.

    Example:

    >>> read_export("runs/nothing") is None
    True
    """
    directory = pathlib.Path(directory)
    if not all((directory / name).exists() for name in (*FILES, "model.keras")):
        return None
    found = read_json(directory / "exported.json")
    settings = {"precision": precision, "model": _digest(directory)}
    if found.get("settings") != settings or not set(RESULTS) <= set(found):
        return None
    return {name: found[name] for name in RESULTS}


def _compacted(model):
    try:
        return compact(model)[0]
    except ValueError:
        # A network that cannot be followed, or has ghost skips, keeps its dead units.
        return model


def _first(x, count):
    """Returns the first examples of arrays, also of nested ones."""
    return keras.tree.map_structure(lambda array: array[:count], x)


def _digest(directory):
    """Returns a hash of the network, which tells it from one that was trained later."""
    return file_digest(directory / "model.keras")
