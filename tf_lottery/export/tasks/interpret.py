"""Runs and times TFLite files; runs in a separate process, see `ChildProcess`."""

import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

NUM_WARM_UP_RUNS, NUM_RANDOM_RUNS = 5, 2
# Lengths to try for files that do not run at the one that they store.
OPEN_LENGTHS = (32, 2048)
RESOLVERS = {
    "default": OpResolverType.AUTO,
    "without delegates": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}


def run(content, steps, resolver):
    """Returns the outputs of a file, a dict of names to arrays for every step.

    Args:
        content: Bytes of the file.
        steps: List of dicts of names to arrays, the inputs. Floats become integers where the
            file takes these, and its integers with a scale become floats.
        resolver: String, a key of `RESOLVERS`.
    """
    runner = _interpreter(content, resolver).get_signature_runner()
    inputs, details = runner.get_input_details(), runner.get_output_details()
    return [
        {
            name: _decode(array, details[name])
            for name, array in runner(**_encode_all(step, inputs)).items()
        }
        for step in steps
    ]


def run_encoded(content, steps):
    """Returns the inputs as the file takes them and its outputs, in the order of its graph.

    Runs the reference kernels, without delegates.

    Args:
        content: Bytes of the file.
        steps: List of dicts of names to arrays, the inputs.

    Returns:
        Two lists with a list of arrays for every step.
    """
    interpreter = _interpreter(content, "reference")
    # The runner itself must not exist while the interpreter is run.
    details = interpreter.get_signature_runner().get_input_details()
    by_index = {detail["index"]: name for name, detail in details.items()}
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    steps = [_encode_all(step, details) for step in steps]
    steps = [[step[by_index[detail["index"]]] for detail in inputs] for step in steps]
    results = []
    for step in steps:
        for detail, array in zip(inputs, step, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        results.append([interpreter.get_tensor(detail["index"]) for detail in outputs])
    return steps, results


def _encode_all(step, details):
    return {name: _encode(array, details[name]) for name, array in step.items()}


def _encode(array, detail):
    """Returns floats as the integers that an input takes; other arrays as they are."""
    dtype, parameters = np.dtype(detail["dtype"]), detail["quantization_parameters"]
    if array.dtype.kind != "f" or dtype.kind not in "iu" or not len(parameters["scales"]):
        return array
    limits = np.iinfo(dtype)
    numbers = np.rint(array / parameters["scales"][0]) + parameters["zero_points"][0]
    return np.clip(numbers, limits.min, limits.max).astype(dtype)


def _decode(array, detail):
    """Returns the floats that an integer output stands for; other arrays as they are."""
    parameters = detail["quantization_parameters"]
    if array.dtype.kind not in "iu" or not len(parameters["scales"]):
        return array
    numbers = array.astype("float64") - parameters["zero_points"][0]
    return (numbers * parameters["scales"][0]).astype("float32")


def run_random(content, resolver):
    """Returns the outputs of a file on random inputs, a list of arrays.

    All signatures of the file run, or its main graph if there are none. The inputs are the same
    for all files with the same inputs.

    Args:
        content: Bytes of the file.
        resolver: String, a key of `RESOLVERS`.
    """
    problem = None
    for length in (None, *OPEN_LENGTHS):
        try:
            return _run_random(_interpreter(content, resolver, length))
        except RuntimeError as error:
            # Networks with open lengths do not run on all lengths, and not always on one of 1.
            problem = problem or error
            if not _has_open_lengths(content):
                break
    raise problem


def _has_open_lengths(content):
    details = Interpreter(model_content=content).get_input_details()
    return any(-1 in detail["shape_signature"][1:] for detail in details)


def _run_random(interpreter):
    rng, outputs = np.random.default_rng(0), []
    for key in sorted(interpreter.get_signature_list() or {}):
        runner = interpreter.get_signature_runner(key)
        details = runner.get_input_details()
        for _ in range(NUM_RANDOM_RUNS):
            results = runner(**{name: _random(details[name], rng) for name in sorted(details)})
            outputs += [results[name] for name in sorted(results)]
    if outputs:
        return outputs
    for _ in range(NUM_RANDOM_RUNS):
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], _random(detail, rng))
        interpreter.invoke()
        details = interpreter.get_output_details()
        outputs += [interpreter.get_tensor(detail["index"]) for detail in details]
    return outputs


def _random(detail, rng):
    dtype, shape = np.dtype(detail["dtype"]), detail["shape"]
    if dtype.kind in "fc":
        return rng.normal(size=shape).astype(dtype)
    if dtype.kind not in "iub":
        raise ValueError(f"input {detail['name']!r} is not a number but {dtype}")
    # Integers without a scale are indices or flags.
    is_scaled = dtype.kind != "b" and len(detail["quantization_parameters"]["scales"])
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if is_scaled else (0, 1)
    return rng.integers(low, high, size=shape, endpoint=True).astype(dtype)


def measure(contents, step, runs):
    """Returns the median milliseconds of a run for each of several files.

    The files run in turns, so that other load on the machine affects all of them equally.

    Args:
        contents: Dict of names to bytes of files.
        step: Dict of names to arrays, the inputs.
        runs: Integer, how often to run each file.
    """
    interpreters = {name: _interpreter(content, "default") for name, content in contents.items()}
    for interpreter in interpreters.values():
        # Neither the runner nor its outputs may exist while the interpreter is run.
        details = interpreter.get_signature_runner().get_input_details()
        interpreter.get_signature_runner()(**_encode_all(step, details))
    times = {name: [] for name in contents}
    for _ in range(NUM_WARM_UP_RUNS + runs):
        for name, interpreter in interpreters.items():
            start = time.perf_counter()
            interpreter.invoke()
            times[name].append(time.perf_counter() - start)
    return {name: float(1e3 * np.median(t[NUM_WARM_UP_RUNS:])) for name, t in times.items()}


def _interpreter(content, resolver, length=None):
    interpreter = Interpreter(
        model_content=content,
        num_threads=1,
        experimental_op_resolver_type=RESOLVERS[resolver],
    )
    for detail in interpreter.get_input_details() if length is not None else ():
        shape = [n if n >= 0 else length for n in detail["shape_signature"]]
        shape[0] = detail["shape"][0]
        interpreter.resize_tensor_input(detail["index"], shape)
    interpreter.allocate_tensors()
    return interpreter
