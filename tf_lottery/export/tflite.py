"""Export to a TFLite file that was run and compared with Keras before it is handed out."""

import contextlib
import dataclasses
import gzip
import logging
import numbers
import os
import re
import sys
import tempfile
import time

import keras
import numpy as np

from tf_lottery import files
from tf_lottery.export.constants import lost_weights, stored_sparsity
from tf_lottery.export.inputs import SIGNATURE_NAME, flat_keys, make_inputs
from tf_lottery.export.report import ExportReport, StoredFile
from tf_lottery.model import SparseModel, strip

# An output that is zero but for rounding has no scale of its own to compare with.
SMALLEST_SCALE = 1e-6
NUM_WARM_UP_RUNS = 5
CONVERTER_NOTE = re.compile(
    r"[IW]\d{4} |\d{4}-\d\d-\d\d \S+ [IW] |INFO: |WARNING: All log messages "
    r"|To enable the following|Estimated count of arithmetic ops|\s*$"
)


class ExportError(RuntimeError):
    """The file would have been wrong, so it was not written."""


def export_tflite(
    model, path, sample_inputs=None, storage="sparse", tolerance=1e-4, runs=50, seed=0
):
    """Writes a model to a TFLite file, provided that the file computes what Keras computes.

    The model is stripped and converted, the file is run on sample inputs and compared with
    Keras in inference mode. Only then it takes its place at `path`; if anything fails,
    what was there before stays untouched. The file takes one example at a time, since
    recurrent layers convert at a fixed batch size only, or as many as the model fixes.

    Args:
        model: A `SparseModel` or any built `keras.Model` that takes its inputs as its first
            argument. Nothing but the zeros of `tfl.strip` is written into it.
        path: String or path of the file; the folder has to exist.
        sample_inputs: Array with a few examples, or a list or dict of arrays for several
            inputs. Dimensions that the model leaves open get the sizes they have here.
            Defaults to `None`: four examples of normal numbers, of 0 and 1 for integers;
            a subclassed model does not know its inputs' types, floats are taken.
        storage: `"sparse"` leaves out the zeros of dense, convolutional and recurrent
            kernels with at least 30% of them; `"dense"` stores all. Defaults to `"sparse"`.
        tolerance: Float, the largest `max|file - keras|` allowed in an output, as a fraction
            of `max|keras|` over all examples or of 1e-6, whichever is larger. Integer
            outputs have to be equal. Defaults to `1e-4`.
        runs: Integer, how often to run each file to measure latency. Defaults to `50`.
        seed: Integer, for the default sample inputs. Defaults to `0`.

    Returns:
        An `ExportReport`.

    Raises:
        ValueError: If an argument is outside its range or the model is not built.
        OSError: If no file can be written at `path`.
        RuntimeError: If the backend is not TensorFlow.
        ExportError: If the converter refuses the model, or the file does not load, gives
            NaN or disagrees with Keras. It is a `RuntimeError`.

    Example:

    >>> report = tfl.export_tflite(sparse_model, "model.tflite", x_test[:8])
    >>> print(report)
    """
    plain = _check_arguments(model, path, storage, tolerance, runs)
    inputs = make_inputs(plain, sample_inputs, seed)
    with files.atomic_path(path) as temporary:
        if isinstance(model, SparseModel):
            strip(model)
        expected = _keras_outputs(plain, inputs)
        with _quiet_converter():
            contents = _convert(plain, inputs, list(expected), [storage, "dense"])
            difference = _verify(contents, storage, inputs, expected, tolerance, plain.name)
            latencies = _latencies(contents, inputs, runs)
        temporary.write_bytes(contents[storage])
    stored = {
        name: StoredFile(len(content), len(gzip.compress(content, 9)), latencies[name])
        for name, content in contents.items()
    }
    return ExportReport(
        path=os.fspath(path),
        storage=storage,
        stored_sparsity=stored_sparsity(contents[storage]),
        max_difference=difference,
        dense=stored["dense"],
        **dataclasses.asdict(stored[storage]),
    )


def _check_arguments(model, path, storage, tolerance, runs):
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "`export_tflite` needs Keras on TensorFlow, as TFLite's converter does. Save the "
            "model with `model.save(FILE)` and run `KERAS_BACKEND=tensorflow tf-lottery export "
            f"FILE`. Received: keras.backend.backend()={keras.backend.backend()!r}"
        )
    plain = model.model if isinstance(model, SparseModel) else model
    if not isinstance(plain, keras.Model) or not plain.built:
        raise ValueError(
            "Argument `model` must be a `SparseModel` or a built `keras.Model`: start it with a "
            f"`keras.Input` or call it on a batch. Received: {model!r}"
        )
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"Argument `path` must be a string or a path. Received: path={path!r}")
    if storage not in ("sparse", "dense"):
        raise ValueError(
            f"Argument `storage` must be 'sparse' or 'dense'. Received: storage={storage!r}"
        )
    if not isinstance(tolerance, numbers.Real) or not 0 < tolerance < float("inf"):
        raise ValueError(
            f"Argument `tolerance` must be a positive number. Received: tolerance={tolerance!r}"
        )
    if not isinstance(runs, numbers.Integral) or runs < 1:
        raise ValueError(f"Argument `runs` must be a positive integer. Received: runs={runs!r}")
    return plain


@contextlib.contextmanager
def _quiet_converter():
    # Converter and interpreter log in C++, below `sys.stderr`. Only lines known to be notes
    # are dropped; all else, other threads' lines too, is passed on afterwards.
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.WARNING)
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        terminal = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            logger.setLevel(level)
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            log.seek(0)
            for line in log.read().decode(errors="replace").splitlines(keepends=True):
                if not CONVERTER_NOTE.match(line):
                    sys.stderr.write(line)


def _keras_outputs(model, inputs):
    steps = []
    # Stateless, so that a stateful layer of the user's model keeps its state.
    with keras.StatelessScope():
        for step in inputs.steps():
            outputs = model(inputs.pack(step.values()), training=False)
            steps.append([keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(outputs)])
    names = flat_keys(outputs)
    if not names or not all(map(SIGNATURE_NAME.fullmatch, names)):
        names = [f"output_{i}" for i in range(len(steps[0]))]
    expected = {name: np.stack(x) for name, x in zip(names, zip(*steps, strict=True), strict=True)}
    bad = [name for name, values in expected.items() if not np.isfinite(values).all()]
    if bad:
        raise ExportError(
            "Argument `model` must have finite outputs to compare a file with. "
            f"Received: model={model.name!r}, with NaN or infinity in Keras' own outputs {bad}"
        )
    return expected


def _convert(model, inputs, output_names, storages):
    import tensorflow as tf

    def serve(tensors):
        outputs = keras.tree.flatten(model(inputs.pack(tensors), training=False))
        return dict(zip(output_names, outputs, strict=True))

    signature = [
        tf.TensorSpec(array.shape, array.dtype, name=name)
        for name, array in next(inputs.steps()).items()
    ]
    contents = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            archive = keras.export.ExportArchive()
            archive.add_endpoint("serve", serve, [signature])
            archive.write_out(folder, verbose=False)
            for storage in storages:
                converter = tf.lite.TFLiteConverter.from_saved_model(folder)
                if storage == "sparse":
                    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
                contents[storage] = converter.convert()
    except Exception as error:
        missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
        raise ExportError(
            "Argument `model` must consist of operations that TFLite has; layers that compute "
            f"in float16 do not. Received: model={model.name!r}, refused by the converter for "
            f"{', '.join(missing) or f'{type(error).__name__}: {error}'}"
        ) from error
    return contents


def _interpreter(content):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _verify(contents, storage, inputs, expected, tolerance, name):
    problem, difference = _compare(contents[storage], inputs, expected, tolerance)
    if not problem and storage == "sparse":
        problem = lost_weights(contents[storage], contents["dense"])
    if not problem:
        return difference
    advice = "Nothing was written."
    if storage == "sparse":
        dense_problem, _ = _compare(contents["dense"], inputs, expected, tolerance)
        advice += (
            f" Nor is the dense-stored file right: {dense_problem}"
            if dense_problem
            else ' Pass `storage="dense"`: that file of the same model was run and agrees. The '
            "converter is known to drop inputs of dense kernels with more than 96.5% zeros "
            "whose input width is not a multiple of 4."
        )
    raise ExportError(
        f"{problem} {advice} Received: model={name!r}, storage={storage!r}, tolerance={tolerance}"
    )


def _compare(content, inputs, expected, tolerance):
    """Returns what is wrong with the file, or `None`, and its difference from Keras."""
    try:
        runner = _interpreter(content).get_signature_runner()
        steps = [runner(**step) for step in inputs.steps()]
    except (RuntimeError, ValueError) as error:
        return f"The file does not run: {error}.", None
    largest = 0.0
    for name, values in expected.items():
        outputs = np.stack([step[name] for step in steps])
        if outputs.shape != values.shape or not np.isfinite(outputs).all():
            return f"Output {name!r} of the file has NaN, infinity or another shape.", None
        difference = np.max(np.abs(outputs.astype("float64") - values), initial=0.0)
        scale = np.max(np.abs(values.astype("float64")), initial=SMALLEST_SCALE)
        allowed = tolerance * scale if keras.backend.is_float_dtype(values.dtype.name) else 0.0
        if difference > allowed:
            return (
                f"Output {name!r} of the file differs from Keras by {difference:.3g}, allowed is "
                f"{allowed:.3g}; the largest value in Keras is {scale:.3g}."
            ), None
        largest = max(largest, float(difference))
    return None, largest


def _latencies(contents, inputs, runs):
    interpreters = {storage: _interpreter(content) for storage, content in contents.items()}
    for interpreter in interpreters.values():
        interpreter.get_signature_runner()(**next(inputs.steps()))
    times = {storage: [] for storage in contents}
    # In turns, so that a busy moment of the machine hits the files alike.
    for _ in range(NUM_WARM_UP_RUNS + runs):
        for storage, interpreter in interpreters.items():
            start = time.perf_counter()
            interpreter.invoke()
            times[storage].append(time.perf_counter() - start)
    return {name: float(1e3 * np.median(t[NUM_WARM_UP_RUNS:])) for name, t in times.items()}
