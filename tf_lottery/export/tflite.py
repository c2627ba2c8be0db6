"""Export to a TFLite file that was run and compared with Keras before it is handed out."""

import contextlib
import dataclasses
import errno
import gzip
import numbers
import os
import pathlib
import re
import sys
import tempfile
import time
import uuid

import keras
import numpy as np

from tf_lottery.model import SparseModel, strip

# An output that is zero but for rounding has no scale of its own to compare with.
SMALLEST_SCALE = 1e-6
NUM_SAMPLES = 4
NUM_WARM_UP_RUNS = 5
SIGNATURE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
CONVERTER_NOTE = re.compile(r"[IW]\d{4} |INFO: |WARNING: All log messages |To enable the following")
# Which NumPy kinds an input of a Keras data type takes without losing information.
KINDS = {"float": "fiub", "int": "iub", "uint": "iub", "bool": "b"}


class ExportError(RuntimeError):
    """The file would have been wrong, so it was not written."""


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
class ExportReport:
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
            f"{self.path}: {self.stored_sparsity:.2%} of the weights left out, "
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

    def __str__(self):
        from rich.console import Console

        console = Console(width=110)
        with console.capture() as capture:
            console.print(self)
        return capture.get()


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
            Defaults to `None`: four examples of normal numbers, of 0 and 1 for integers.
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
    plain = _check_arguments(model, storage, tolerance, runs)
    inputs = _make_inputs(plain, sample_inputs, seed)
    with _file_in_place_if_all_is_well(path) as file:
        if isinstance(model, SparseModel):
            strip(model)
        expected = _keras_outputs(plain, inputs)
        with _quiet_converter():
            contents = _convert(plain, inputs, list(expected), {storage, "dense"})
            file.write(contents[storage])
            difference = _verify(contents, storage, inputs, expected, tolerance, plain.name)
            latencies = _latencies(contents, inputs, runs)
    stored = {
        name: StoredFile(len(content), len(gzip.compress(content, 9)), latencies[name])
        for name, content in contents.items()
    }
    return ExportReport(
        path=os.fspath(path),
        storage=storage,
        stored_sparsity=_stored_sparsity(contents[storage]),
        max_difference=difference,
        dense=stored["dense"],
        **dataclasses.asdict(stored[storage]),
    )


def _check_arguments(model, storage, tolerance, runs):
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


@dataclasses.dataclass(frozen=True)
class _Inputs:
    names: list
    structure: object
    batch: int
    arrays: list

    def pack(self, tensors):
        return keras.tree.pack_sequence_as(self.structure, list(tensors))

    def steps(self):
        for start in range(0, len(self.arrays[0]), self.batch):
            yield [array[start : start + self.batch] for array in self.arrays]


def _make_inputs(model, sample_inputs, seed):
    structure = _input_structure(model, sample_inputs)
    tensors = keras.tree.flatten(structure)
    keys = [tensor.name for tensor in tensors]
    if isinstance(structure, dict) and len(structure) == len(tensors):
        keys = keras.tree.flatten({key: key for key in structure})
    if sample_inputs is None:
        rng = np.random.default_rng(seed)
        arrays = [_random_array(*pair, rng) for pair in zip(keys, tensors, strict=True)]
    else:
        if isinstance(sample_inputs, dict) and set(sample_inputs) == set(keys):
            sample_inputs = [sample_inputs[key] for key in keys]
        arrays = [np.asarray(array) for array in keras.tree.flatten(sample_inputs)]
        arrays = _check_arrays(arrays, keys, tensors)
    # Keras numbers the inputs that it names itself; a file shall not depend on the count.
    own = all(SIGNATURE_NAME.fullmatch(key) and "keras_tensor" not in key for key in keys)
    names = keys if own else [f"input_{i}" for i in range(len(keys))]
    return _Inputs(names, structure, tensors[0].shape[0] or 1, arrays)


def _input_structure(model, sample_inputs):
    if isinstance(model, keras.Sequential) and getattr(model, "inputs", None):
        return model.inputs[0]
    if getattr(model, "inputs", None):
        return model.input
    shapes = (model.get_build_config() or {}).get("input_shape")
    if sample_inputs is not None:
        arrays = keras.tree.map_structure(np.asarray, sample_inputs)
        return keras.tree.map_structure(
            lambda array: keras.KerasTensor(
                (None, *array.shape[1:]),
                keras.config.floatx() if array.dtype.kind == "f" else str(array.dtype),
            ),
            arrays,
        )
    if shapes is None:
        raise ValueError(
            "Argument `sample_inputs` must be given for a model that does not know the shapes "
            f"of its inputs. Received: sample_inputs=None, model={model.name!r}"
        )
    return keras.tree.map_shape_structure(
        lambda shape: keras.KerasTensor((None, *shape[1:]), keras.config.floatx()), shapes
    )


def _random_array(key, tensor, rng):
    shape, kinds = tensor.shape[1:], KINDS.get(tensor.dtype.rstrip("0123456789"))
    if None in shape or kinds is None:
        raise ValueError(
            "Argument `sample_inputs` must be given for a model with inputs of open shape or "
            f"not of numbers. Received: sample_inputs=None, input {key!r} of shape "
            f"{tensor.shape} and dtype {tensor.dtype}"
        )
    shape = (NUM_SAMPLES * (tensor.shape[0] or 1), *shape)
    values = rng.normal(size=shape) if "f" in kinds else rng.integers(0, 2, size=shape)
    return values.astype(tensor.dtype)


def _check_arrays(arrays, keys, tensors):
    wanted = {key: (tensor.shape, tensor.dtype) for key, tensor in zip(keys, tensors, strict=True)}
    received = [(array.shape, str(array.dtype)) for array in arrays]
    batch = tensors[0].shape[0] or 1
    fits = len(arrays) == len(tensors) and len({array.shape[:1] for array in arrays}) == 1
    fits = fits and arrays[0].ndim > 0 and len(arrays[0]) > 0 and len(arrays[0]) % batch == 0
    for array, tensor in zip(arrays, tensors, strict=False):
        sizes = zip(array.shape[1:], tensor.shape[1:], strict=False)
        fits = fits and array.ndim == len(tensor.shape) and all(b in (None, a) for a, b in sizes)
        fits = fits and array.dtype.kind in KINDS.get(tensor.dtype.rstrip("0123456789"), "")
    if not fits:
        raise ValueError(
            "Argument `sample_inputs` must have one array per input, all with the same number "
            f"of examples, of these shapes and dtypes: {wanted}. Received: {received}"
        )
    return [array.astype(tensor.dtype) for array, tensor in zip(arrays, tensors, strict=True)]


@contextlib.contextmanager
def _file_in_place_if_all_is_well(path):
    target = pathlib.Path(path)
    if target.is_dir():
        message = "Argument `path` must name a file, not a folder. Received"
        raise IsADirectoryError(errno.EISDIR, message, str(path))
    temporary = target.with_name(f".{uuid.uuid4().hex}.tflite")
    try:
        file = open(temporary, "xb")  # noqa: SIM115
    except OSError as error:
        message = f"Argument `path` must lie in a folder to write to ({error.strerror}). Received"
        raise OSError(error.errno, message, str(path)) from None
    try:
        with file:
            yield file
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _quiet_converter():
    # The converter and the interpreter log in C++, below `sys.stderr`. Only lines known to
    # be notes are dropped; all else, of other threads too, is passed on afterwards.
    sys.stderr.flush()
    with contextlib.ExitStack() as stack:
        try:
            terminal = os.dup(2)
        except OSError:
            terminal = None
        if terminal is not None:
            log = stack.enter_context(tempfile.TemporaryFile())
            os.dup2(log.fileno(), 2)
            stack.callback(_pass_on, log, terminal)
        yield


def _pass_on(log, terminal):
    sys.stderr.flush()
    os.dup2(terminal, 2)
    os.close(terminal)
    log.seek(0)
    for line in log.read().decode(errors="replace").splitlines(keepends=True):
        if not CONVERTER_NOTE.match(line):
            sys.stderr.write(line)


def _keras_outputs(model, inputs):
    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    steps = []
    for arrays in inputs.steps():
        # Stateless, so that a stateful layer of the user's model keeps its state.
        outputs, _ = model.stateless_call(trainable, others, inputs.pack(arrays), training=False)
        named = zip(_output_names(outputs), keras.tree.flatten(outputs), strict=True)
        steps.append({name: keras.ops.convert_to_numpy(output) for name, output in named})
    expected = {name: np.stack([step[name] for step in steps]) for name in steps[0]}
    for name, values in expected.items():
        if not np.isfinite(values).all():
            raise ExportError(
                "The outputs of `model` must be finite to be compared with those of a file. "
                f"Received: NaN or infinity in output {name!r} of {model.name!r} in Keras"
            )
    return expected


def _output_names(outputs):
    leaves = keras.tree.flatten(outputs)
    if isinstance(outputs, dict) and len(outputs) == len(leaves):
        keys = keras.tree.flatten({key: str(key) for key in outputs})
        if all(SIGNATURE_NAME.fullmatch(key) for key in keys):
            return keys
    return [f"output_{i}" for i in range(len(leaves))]


def _convert(model, inputs, output_names, storages):
    import tensorflow as tf

    def serve(tensors):
        outputs = keras.tree.flatten(model(inputs.pack(tensors), training=False))
        return dict(zip(output_names, outputs, strict=True))

    signature = [
        tf.TensorSpec((inputs.batch, *array.shape[1:]), array.dtype, name=name)
        for name, array in zip(inputs.names, inputs.arrays, strict=True)
    ]
    contents = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            archive = keras.export.ExportArchive()
            archive.track(model)
            archive.add_endpoint("serve", serve, [signature])
            archive.write_out(folder, verbose=False)
            for storage in storages:
                converter = tf.lite.TFLiteConverter.from_saved_model(folder)
                if storage == "sparse":
                    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
                contents[storage] = converter.convert()
    except Exception as error:
        raise ExportError(
            "Argument `model` must consist of operations that TFLite's converter has. "
            f"Received: model={model.name!r}, refused with {type(error).__name__}: {error}"
        ) from error
    return contents


def _interpreter(content):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _verify(contents, storage, inputs, expected, tolerance, name):
    problem, difference = _compare(contents[storage], inputs, expected, tolerance)
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
        steps = [runner(**dict(zip(inputs.names, step, strict=True))) for step in inputs.steps()]
    except (RuntimeError, ValueError) as error:
        return f"The file does not run: {error}.", None
    largest = 0.0
    for name, values in expected.items():
        outputs = np.stack([step[name] for step in steps])
        if outputs.shape != values.shape:
            shapes = f"{outputs.shape[1:]} instead of {values.shape[1:]}"
            return f"Output {name!r} of the file has the shape {shapes}.", None
        if not np.isfinite(outputs).all():
            return f"Output {name!r} of the file has NaN or infinity.", None
        difference = np.max(np.abs(outputs.astype("float64") - values), initial=0.0)
        scale = float(np.max(np.abs(values.astype("float64")), initial=SMALLEST_SCALE))
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
    times = {storage: [] for storage in contents}
    for interpreter in interpreters.values():
        step = dict(zip(inputs.names, next(inputs.steps()), strict=True))
        interpreter.get_signature_runner()(**step)
    # In turns, so that a busy moment of the machine hits the files alike.
    for _ in range(NUM_WARM_UP_RUNS + runs):
        for storage, interpreter in interpreters.items():
            start = time.perf_counter()
            interpreter.invoke()
            times[storage].append(time.perf_counter() - start)
    return {
        storage: float(1e3 * np.median(series[NUM_WARM_UP_RUNS:]))
        for storage, series in times.items()
    }


def _stored_sparsity(content):
    from ai_edge_litert import schema_py_generated as schema

    file = schema.Model.GetRootAs(content)
    sizes = {schema.TensorType.FLOAT32: 4, schema.TensorType.FLOAT16: 2}
    weights, stored = {}, {}
    for graph in map(file.Subgraphs, range(file.SubgraphsLength())):
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            # Equal constants share a buffer, which is counted once.
            length = file.Buffers(tensor.Buffer()).DataLength()
            if length and tensor.Type() in sizes:
                weights[tensor.Buffer()] = int(np.prod(tensor.ShapeAsNumpy()))
                stored[tensor.Buffer()] = length // sizes[tensor.Type()]
    total = sum(weights.values())
    return 1.0 - sum(stored.values()) / total if total else 0.0
