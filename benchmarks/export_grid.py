"""Checks every file that `export_tflite` returns, over a grid of a thousand calls.

    KERAS_BACKEND=tensorflow python benchmarks/export_grid.py

Seven kinds of networks, seven sparsities, four patterns, six precisions. Each file that is
returned is run once more here, on inputs that the call has not seen, in the default interpreter
and without delegates, and compared with Keras. An interrupted run is resumed. A
network is converted once for its six precisions, and processes are reused for many calls.

What it should show: none of the returned files is wrong (largest difference from Keras, as a
fraction of the largest output: 1e-5 in float32, 5e-3 in float16, 3e-2 with 8-bit weights); the
other calls are refused with a reason: integers only for recurrent layers that run in a loop.
"""

import argparse
import itertools
import math
import pathlib
import tempfile
import time

import export_models
import keras
import numpy as np
import record
from ai_edge_litert.interpreter import Interpreter, OpResolverType

import tf_lottery as tfl
from tf_lottery.export import making, quantization

FAMILIES = {
    "lenet": export_models.lenet,
    "vgg": lambda: export_models.vgg(width=32),
    "mobilenet": export_models.small_mobilenet,
    "lstm": export_models.lstm,
    "gru": export_models.gru,
    "transformer": export_models.transformer,
    "odd_widths": export_models.odd_widths,
}
SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
PATTERNS = ("unstructured", "4x1", "16x1", "2:4")
PRECISIONS = tuple(quantization.TOLERANCES)
RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
SETTINGS = {"calibration_examples": 256, "compared_examples": 8, "fresh_examples": 8}


def main():
    """Exports every cell that is not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no network later")
    args = parser.parse_args()
    export_models.keep_processes()
    cells = _recorded()
    done = {(c["family"], c["pattern"], c["sparsity"]) for c in cells}
    end = time.time() + args.seconds
    for network in itertools.product(args.families, PATTERNS, SPARSITIES):
        family, pattern, sparsity = network
        # Without zeros the patterns are all the same.
        is_repetition = sparsity == 0 and pattern != PATTERNS[0]
        if is_repetition or network in done:
            continue
        start = time.time()
        if start > end:
            break
        cells += run_network(*network)
        record.write("export_grid", SETTINGS, {"summary": summarize(cells), "cells": cells})
        print(*network, f"{time.time() - start:.0f} s", flush=True)
    print(summarize(cells))


def run_network(family, pattern, sparsity):
    """Returns the cells of a network: one for every precision."""
    name = {"family": family, "pattern": pattern, "sparsity": sparsity}
    try:
        model = export_models.pruned(FAMILIES[family], sparsity, pattern)
    except ValueError as error:  # The pattern divides no kernel.
        refused = {"refused": "ValueError", "reason": str(error).split(" Received: ")[0]}
        return [{**name, "quantize": precision, **refused} for precision in PRECISIONS]
    convert, converted = making.convert, {}

    def convert_once(*args):
        if not converted:
            converted["file"] = convert(*args)
        return converted["file"]

    making.convert = convert_once
    try:
        cells = [run_cell(model, precision) for precision in PRECISIONS]
    finally:
        making.convert = convert
    return [{**name, **cell} for cell in cells]


def run_cell(model, precision):
    """Returns the outcome of one call."""
    samples, typical = export_models.example_inputs(model, SETTINGS["compared_examples"], 1), None
    if precision in quantization.INTEGER:
        # Values beyond the ranges of the representative inputs are clipped.
        typical = export_models.example_inputs(model, SETTINGS["calibration_examples"], seed=2)
        samples = typical[: SETTINGS["compared_examples"]]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.tflite"
        try:
            report = tfl.export_tflite(
                model, path, samples, quantize=precision, representative_data=typical, runs=5
            )
        except (ValueError, tfl.ExportError) as error:
            reason = str(error).split(" Received: ")[0]
            return {"quantize": precision, "refused": type(error).__name__, "reason": reason}
        fresh = export_models.example_inputs(model, SETTINGS["fresh_examples"], seed=3)
        differences = [difference(model, path, fresh, resolver) for resolver in RESOLVERS]
    return {
        "quantize": precision,
        "storage": report.storage,
        "num_bytes": report.num_bytes,
        "floor_bytes": report.floor_bytes,
        "relative_difference": report.relative_difference,
        "fresh_difference": max(differences),
    }


def difference(model, path, inputs, resolver):
    """Returns the largest difference from Keras as a fraction of the largest output."""
    interpreter = Interpreter(
        model_path=str(path), num_threads=1, experimental_op_resolver_type=resolver
    )
    runner = interpreter.get_signature_runner()
    (name,) = runner.get_input_details()
    outputs = [next(iter(runner(**{name: x[None]}).values())) for x in inputs]
    expected = keras.ops.convert_to_numpy(model(inputs, training=False))
    found = np.concatenate(outputs).astype("float64")
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def summarize(cells):
    """Returns for every precision the numbers of calls by outcome and the worst differences."""
    summary = []
    for precision in PRECISIONS:
        chosen = [cell for cell in cells if cell["quantize"] == precision]
        files = [cell for cell in chosen if "refused" not in cell]
        refused = [cell["refused"] for cell in chosen if "refused" in cell]
        summary.append(
            {
                "quantize": precision,
                "calls": len(chosen),
                "files": len(files),
                "above_tolerance": sum(
                    cell["fresh_difference"] > quantization.TOLERANCES[precision] for cell in files
                ),
                "sparse": sum(cell["storage"] == "sparse" for cell in files),
                "refused_before_conversion": refused.count("ValueError"),
                "refused_after_running": refused.count("ExportError"),
                "worst_difference": max((c["fresh_difference"] for c in files), default=None),
            }
        )
    return summary


def _recorded():
    try:
        return record.read("export_grid")["results"]["cells"]
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    main()
