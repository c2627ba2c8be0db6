"""How much faster block-sparse and compacted networks run on this CPU.

    KERAS_BACKEND=tensorflow python benchmarks/export_latency.py

Each ratio is the median of five measurements, each of 300 runs that alternate with the
dense-stored float32 file, on one thread of the default interpreter. An interrupted run is resumed.

What it should show: a dense layer of 1024 x 1024 with one example at a time takes at most 0.5 of
the dense file's time with `pattern="4x1"` at 90%, and at most 0.15 with `pattern="16x1"` and
dynamic int8 at 95%. Unstructured zeros, and convolutions, gain nothing; with many rows of inputs
(sequences) blocks help only at the highest sparsities. The speedup of compacted networks is
smaller than their reduction in parameters.
"""

import pathlib
import statistics
import tempfile

import export_models
import keras
import record

import tf_lottery as tfl
from tf_lottery.export.child_process import TASKS, ChildProcess

# Inputs of one run are rows x 1024.
DENSE_CASES = (
    ("unstructured", 0.9, None, 1),
    ("unstructured", 0.98, None, 1),
    ("4x1", 0.5, None, 1),
    ("4x1", 0.8, None, 1),
    ("4x1", 0.9, None, 1),
    ("4x1", 0.95, None, 1),
    ("4x1", 0.9, None, 16),
    ("4x1", 0.95, None, 16),
    ("4x1", 0.98, None, 16),
    ("16x1", 0.95, None, 1),
    ("4x1", 0.0, "dynamic_int8", 1),
    ("16x1", 0.8, "dynamic_int8", 1),
    ("16x1", 0.9, "dynamic_int8", 1),
    ("16x1", 0.95, "dynamic_int8", 1),
    ("16x1", 0.95, "dynamic_int8", 16),
    ("16x1", 0.95, "int8", 1),
)
REPEATS, RUNS = 5, 300


def main():
    """Measures all cases and records them."""
    export_models.keep_processes()
    rows = _recorded()
    done = [(row["pattern"], row["sparsity"], row["quantize"], row["rows"]) for row in rows]
    for pattern, sparsity, precision, num_rows in DENSE_CASES:
        if (pattern, sparsity, precision, num_rows) in done:
            continue
        model = export_models.pruned(lambda n=num_rows: dense_layer(n), sparsity, pattern)
        row = measure(model, precision, "sparse" if sparsity else "dense")
        row |= {"network": "dense 1024 x 1024", "pattern": pattern, "sparsity": sparsity}
        rows.append({**row, "rows": num_rows})
        print(rows[-1], flush=True)
        record.write("export_latency", {"repeats": REPEATS, "runs": RUNS}, {"cases": rows})
    order = {case: position for position, case in enumerate(DENSE_CASES)}
    rows.sort(key=lambda r: order[r["pattern"], r["sparsity"], r["quantize"], r["rows"]])
    compacted = [compact_lenet(sparsity) for sparsity in (0.9, 0.95, 0.98, 0.99)]
    results = {"cases": rows, "compacted": compacted}
    record.write("export_latency", {"repeats": REPEATS, "runs": RUNS}, results)
    print(compacted)


def _recorded():
    """Returns the cases of an interrupted run."""
    try:
        return record.read("export_latency")["results"]["cases"]
    except FileNotFoundError:
        return []


def dense_layer(num_rows):
    """Returns a network of one dense layer, for one example or for a sequence of rows."""
    shape = (1024,) if num_rows == 1 else (num_rows, 1024)
    return keras.Sequential([keras.Input(shape), keras.layers.Dense(1024)])


def measure(model, precision, storage):
    """Returns the size of a file and its latency, as a fraction of the dense float32 file's."""
    typical = export_models.example_inputs(model, 16, seed=2) if precision == "int8" else None
    samples = None if precision == "int8" else export_models.example_inputs(model, 4, seed=1)
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(REPEATS):
            report = tfl.export_tflite(
                model,
                pathlib.Path(folder) / "model.tflite",
                samples,
                quantize=precision,
                storage=storage,
                optimize_for="latency",
                representative_data=typical,
                runs=RUNS,
            )
            reports.append(report)
    ratios = [report.latency_ms / report.dense.latency_ms for report in reports]
    return {
        "quantize": precision,
        "num_bytes": reports[0].num_bytes,
        "stored": sorted({row.storage for row in reports[0].file.rows if row.size > 1e5}),
        "dense_ms": statistics.median(report.dense.latency_ms for report in reports),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def compact_lenet(sparsity):
    """Returns the effect of compaction on LeNet-300-100, pruned layer by layer."""
    model = export_models.pruned(export_models.lenet, sparsity)
    compacted, _ = tfl.compact(model, gather_inputs=True)
    samples = export_models.example_inputs(model, 4, seed=1)
    contents = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, network in (("dense", model), ("compacted", compacted)):
            path = pathlib.Path(folder) / f"{name}.tflite"
            tfl.export_tflite(network, path, samples, storage="dense", runs=1)
            contents[name] = path.read_bytes()
    with ChildProcess(TASKS / "interpret.py") as child:
        step = {"input": samples[:1]}
        times = [
            child.call("measure", contents=contents, step=step, runs=RUNS) for _ in range(REPEATS)
        ]
    return {
        "sparsity": sparsity,
        "parameters": model.count_params(),
        "compacted_parameters": compacted.count_params(),
        "dense_bytes": len(contents["dense"]),
        "compacted_bytes": len(contents["compacted"]),
        "dense_ms": statistics.median(time["dense"] for time in times),
        "ratio": statistics.median(time["compacted"] / time["dense"] for time in times),
    }


if __name__ == "__main__":
    main()
