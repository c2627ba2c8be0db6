"""Compares the outputs of TFLite files with those of Keras, and times the files."""

import contextlib
import dataclasses

import keras
import numpy as np

from tf_lottery.export import flatbuffer
from tf_lottery.export.child_process import TASKS, ChildError, ChildProcess, KeptProcess
from tf_lottery.export.errors import ExportError
from tf_lottery.export.inspection import constant

RESOLVERS = ("default", "without delegates")
# The smallest scale for relative differences, for outputs that are zero up to rounding.
SMALLEST_SCALE = 1e-6
# What the order of float32 sums can change, as a fraction of the largest output.
ROUNDING = 1e-5


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of running a file and comparing it with Keras.

    Args:
        problem: String, what is wrong with the file, `""` if nothing is.
        difference: Float, the largest absolute difference from Keras in any output.
        relative_difference: Float, the largest difference as a fraction of the largest
            value of its output in Keras.
    """

    problem: str = ""
    difference: float = 0.0
    relative_difference: float = 0.0


def interpreter_process():
    """Returns a `KeptProcess` that runs and times files, for use in a `with` block."""
    return KeptProcess(lambda: ChildProcess(TASKS / "interpret.py"))


def verify(content, inputs, expected, tolerance, process):
    """Runs a file in a separate process, with and without delegates, and compares its outputs.

    Args:
        content: Bytes of the file.
        inputs: `Inputs`.
        expected: Dict of names to Keras' outputs, as `keras_outputs` returns them.
        tolerance: Float, the largest `max|file - keras| / max|keras|` that is allowed.
        process: The process of `interpreter_process`.

    Returns:
        A `Verdict`.
    """
    verdicts, given = [], list(inputs.steps())
    for resolver in RESOLVERS:
        try:
            steps = process.call("run", content=content, steps=given, resolver=resolver)
        except ChildError as error:
            name = f"{resolver} interpreter" if resolver == "default" else resolver
            return Verdict(f"The file does not run ({name}): {error}")
        verdicts.append(_compare(steps, expected, tolerance))
        if verdicts[-1].problem:
            return verdicts[-1]
    return max(verdicts, key=lambda verdict: verdict.relative_difference)


def _compare(steps, expected, tolerance):
    largest = relative = 0.0
    for name, values in expected.items():
        outputs = np.stack([step[name] for step in steps])
        if outputs.shape != values.shape or not np.isfinite(outputs).all():
            return Verdict(f"Output {name!r} of the file has NaN, infinity or another shape.")
        difference = np.max(np.abs(outputs.astype("float64") - values), initial=0.0)
        scale = np.max(np.abs(values.astype("float64")), initial=SMALLEST_SCALE)
        allowed = tolerance * scale if keras.backend.is_float_dtype(values.dtype.name) else 0.0
        if difference > allowed:
            return Verdict(
                f"Output {name!r} of the file differs from Keras by {difference:.3g}, allowed is "
                f"{allowed:.3g}; the largest value in Keras is {scale:.3g}."
            )
        largest = max(largest, float(difference))
        relative = max(relative, float(difference / scale))
    return Verdict("", largest, relative)


def outputs_of(content, inputs, chunk=256, process=None):
    """Returns the outputs of a file on examples, a dict of names to arrays.

    Args:
        content: Bytes of the file.
        inputs: `Inputs`.
        chunk: Integer, how many runs are sent to the other process at a time, which bounds the
            memory. Defaults to `256`.
        process: The process of `interpreter_process`. Defaults to `None`: a new one.

    Raises:
        ExportError: If the file does not run.
    """
    steps, found = list(inputs.steps()), []
    try:
        with contextlib.ExitStack() as stack:
            process = process or stack.enter_context(interpreter_process())
            for i in range(0, len(steps), chunk):
                found += process.call(
                    "run", content=content, steps=steps[i : i + chunk], resolver="default"
                )
    except ChildError as error:
        raise ExportError(f"The file does not run: {error}") from error
    return {name: np.concatenate([step[name] for step in found]) for name in found[0]}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The result of running a file and the one that it was made from.

    Args:
        problem: String, in what they differ, `""` if they do not.
        has_run: Boolean, whether an interpreter ran both.
        reason: String, why the original does not run, `""` if it does.
    """

    problem: str = ""
    has_run: bool = False
    reason: str = ""


def compare_files(content, original):
    """Runs two files on the same random inputs, with and without delegates.

    Without delegates, integer outputs must be equal and others agree up to the order of sums.
    With delegates, they may differ twice as much as the original does between the two ways:
    a delegate that takes only one of the files rounds products differently.

    Args:
        content: Bytes of a file.
        original: Bytes of the file it was made from by storing constants sparse.

    Returns:
        A `Comparison`.
    """
    changed = changed_constants(content, original)
    if changed:
        return Comparison(f"The file does not hold the weights of {changed}.")
    outputs = {}
    tasks = [(n, f, r) for n, f in (("original", original), ("file", content)) for r in RESOLVERS]
    with interpreter_process() as process:
        for name, file, resolver in tasks:
            try:
                result = process.call("run_random", content=file, resolver=resolver)
            except ChildError as error:
                result = str(error)
            outputs[name, resolver] = result
    return _compare_all(outputs)


def _compare_all(outputs):
    exact, default = (outputs["original", r] for r in ("without delegates", "default"))
    is_known = not isinstance(exact, str)
    if not is_known and isinstance(default, str):
        return Comparison(has_run=False, reason=exact)
    # What one interpreter does not run is compared in the other.
    spread = [0.0] * len(default)
    if is_known and not isinstance(default, str):
        spread = [2 * _difference(a, b) for a, b in zip(default, exact, strict=True)]
    for resolver in RESOLVERS:
        expected, results = outputs["original", resolver], outputs["file", resolver]
        if isinstance(expected, str):
            continue
        if isinstance(results, str):
            return Comparison(f"It does not run ({resolver}): {results}")
        for number, (a, b) in enumerate(zip(results, expected, strict=True)):
            allowed = 0.0 if b.dtype.kind in "iub" else ROUNDING * _largest(b)
            if resolver == "default":
                allowed = max(allowed, spread[number])
            # Delegates leave some outputs undefined, in the original too.
            if allowed <= _largest(b) and not _difference(a, b) <= allowed:
                return Comparison(
                    f"Output {number} differs ({resolver}) by {_difference(a, b):.3g}, allowed is "
                    f"{allowed:.3g}; the largest value is {_largest(b):.3g}."
                )
    return Comparison(has_run=True)


def _difference(a, b):
    """Returns the largest difference, infinite where only one of two arrays is not finite."""
    if a.shape != b.shape:
        return np.inf
    a, b = a.astype("float64"), b.astype("float64")
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        differences = np.where(same, 0.0, np.abs(a - b))
    return float(np.max(np.nan_to_num(differences, nan=np.inf), initial=0.0))


def _largest(values):
    values = np.abs(values.astype("float64"))
    return float(np.max(values, initial=SMALLEST_SCALE, where=np.isfinite(values)))


def changed_constants(content, dense_content):
    """Returns the names of the constants whose values differ between two files.

    Comparing outputs does not find every lost weight: sample inputs may multiply it by zero.

    Args:
        content: Bytes of a file.
        dense_content: Bytes of the file it was made from by storing constants sparse.
    """
    model, dense = flatbuffer.read_model(content), flatbuffer.read_model(dense_content)
    changed = []
    for graph, dense_graph in zip(model.subgraphs, dense.subgraphs, strict=True):
        packed = {
            operator.outputs[0]: operator.inputs[0]
            for operator in graph.operators
            if flatbuffer.operator_name(model, operator) == "DENSIFY"
        }
        for index, dense_tensor in enumerate(dense_graph.tensors):
            expected = constant(dense, dense_tensor)
            if expected is not None:
                stored = constant(model, graph.tensors[packed.get(index, index)])
                if stored is None or not np.array_equal(stored, expected, equal_nan=True):
                    changed.append(dense_tensor.name.decode(errors="replace"))
    return changed


def latencies(contents, inputs, runs, process):
    """Returns the median milliseconds of a run of each file. The files run in turns.

    Args:
        contents: Dict of names to bytes of files.
        inputs: `Inputs`.
        runs: Integer, how often to run each.
        process: The process of `interpreter_process`.

    Raises:
        ExportError: If a file cannot be run, for example for lack of memory.
    """
    try:
        return process.call("measure", contents=contents, step=next(inputs.steps()), runs=runs)
    except ChildError as error:
        raise ExportError(f"The files cannot be timed: {error} Nothing was written.") from error
