"""Runs and times TFLite files; runs in a separate process, see `ChildProcess`."""

import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

NUM_WARM_UP_RUNS = 5
RESOLVERS = {
    "default": OpResolverType.AUTO,
    "without delegates": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


def run(content, steps, resolver):
    """Returns the outputs of a file, a dict of names to arrays for every step.

    Args:
        content: Bytes of the file.
        steps: List of dicts of names to arrays, the inputs.
        resolver: String, a key of `RESOLVERS`.
    """
    runner = _interpreter(content, resolver).get_signature_runner()
    return [runner(**step) for step in steps]


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
        interpreter.get_signature_runner()(**step)
    times = {name: [] for name in contents}
    for _ in range(NUM_WARM_UP_RUNS + runs):
        for name, interpreter in interpreters.items():
            start = time.perf_counter()
            interpreter.invoke()
            times[name].append(time.perf_counter() - start)
    return {name: float(1e3 * np.median(t[NUM_WARM_UP_RUNS:])) for name, t in times.items()}


def _interpreter(content, resolver):
    interpreter = Interpreter(
        model_content=content,
        num_threads=1,
        experimental_op_resolver_type=RESOLVERS[resolver],
    )
    interpreter.allocate_tensors()
    return interpreter
