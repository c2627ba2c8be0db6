"""Shared by the benchmarks that prune a trained network at once, with unlabelled examples."""

import statistics
import time
import warnings

import tf_lottery as tfl
from tf_lottery.calibration.batch_statistics import BatchStatistics

GRID = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
LAYERS = ("equal", "erk", "global", "allocated", "allocated_bytes")
BATCH_SIZE = 500
# What is recorded by which arguments of `tfl.repair`.
REPAIRS = {"repaired": {}}


def accuracy(model, examples):
    """Returns the percentage of examples that a network classifies correctly.

    Args:
        model: A `keras.Model` with logits.
        examples: Tuple of inputs and integer labels.
    """
    x, y = examples
    return 100 * float((model.predict(x, batch_size=1000, verbose=0).argmax(axis=1) == y).mean())


def sparsities_by_layer(sparse, before, measured, sparsity):
    """Returns a dict of ways to spread a sparsity over the kernels to their sparsities.

    `"equal"`: the same in all. `"erk"`: by the shapes. `"global"`: what a ranking of all magnitudes
    leaves. `"allocated"`: by sensitivities, with as many weights in total; `"allocated_bytes"`:
    with as many bytes as equal sparsities take, the weights and a bit for every position.

    Args:
        sparse: A `SparseModel` whose kernels are dense.
        before: Its `Snapshot`.
        measured: The result of `tfl.sensitivity`.
        sparsity: Float.
    """
    shapes = {path: tuple(kernel.shape) for path, kernel in sparse.kernels.items()}
    ranked = tfl.prune(sparse, sparsity, scope="global")
    before.restore(sparse)
    tfl.prune(sparse, sparsity)
    kernels = [(shapes[path], int(mask.sum())) for path, mask in sparse.get_masks().items()]
    num_bytes = tfl.analysis.storage.num_bytes(kernels)["bitmask"]
    before.restore(sparse)
    return {
        "equal": sparsity,
        "erk": tfl.sparsity.distributions.erdos_renyi_kernel(shapes, sparsity),
        "global": {path: 1 - float(mask.mean()) for path, mask in ranked.items()},
        "allocated": measured.allocate({"parameters": 1 - sparsity}),
        "allocated_bytes": measured.allocate({"bytes": num_bytes}),
    }


def prune_and_repair(sparse, before, x, test, sparsity, scores, repairs):
    """Returns the accuracy after every step, the seconds of the repair, and what is left.

    The steps are `"pruned"`; in networks with batch normalization `"statistics"`, which are
    measured anew; and the names of the repairs, each made of the pruned network.

    Args:
        sparse: A `SparseModel`.
        before: The `Snapshot` of the dense network, from which it starts.
        x: Array of unlabelled inputs.
        test: Tuple of inputs and labels.
        sparsity: Float, or a dict of kernel paths to floats.
        scores: String, as in `tfl.prune`.
        repairs: Dict as `REPAIRS`.
    """
    before.restore(sparse)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That Wanda is not made for such sparsities.
        tfl.prune(sparse, sparsity, scores=scores, data=None if scores == "magnitude" else x)
    summary = tfl.summary(sparse)
    found = {"weights": summary.nonzeros, "bytes": summary.num_bytes["bitmask"]}
    found["pruned"] = accuracy(sparse, test)
    pruned = tfl.Snapshot(sparse)
    if measure_statistics(sparse, x):
        found["statistics"] = accuracy(sparse, test)
    for name, arguments in repairs.items():
        pruned.restore(sparse)
        start = time.perf_counter()
        tfl.repair(sparse, x, reference=before, batch_size=BATCH_SIZE, **arguments)
        found["repair_seconds"] = time.perf_counter() - start
        found[name] = accuracy(sparse, test)
    return found


def measure_statistics(sparse, x):
    """Measures the statistics of batch normalization anew, and returns whether there are any."""
    with sparse.settled() as plain:
        statistics_of_norms = BatchStatistics(plain, run_eagerly=True)
        if statistics_of_norms.layers:
            starts = range(0, len(x), BATCH_SIZE)
            statistics_of_norms.update((x[i : i + BATCH_SIZE], None, None) for i in starts)
    return bool(statistics_of_norms.layers)


def rows_of_network(sparse, held_out, x, test, cells, repairs=REPAIRS):
    """Returns the rows of a trained network, one for every cell, and that of the dense one.

    Args:
        sparse: A compiled `SparseModel` whose kernels are dense.
        held_out: Tuple of inputs and labels, for sensitivities.
        x: Array of unlabelled inputs.
        test: Tuple of inputs and labels.
        cells: List of tuples of a sparsity, a way to spread it over the layers, and scores.
        repairs: Dict of names to arguments of `tfl.repair`. Defaults to `REPAIRS`.
    """
    before = tfl.Snapshot(sparse)
    rows = [{"scores": "dense", "pruned": accuracy(sparse, test)}]
    if measure_statistics(sparse, x):
        rows[0]["statistics"] = accuracy(sparse, test)
        before.restore(sparse)
    measured = tfl.sensitivity(sparse, held_out, sparsities=GRID, verbose=0)
    shares = {
        s: sparsities_by_layer(sparse, before, measured, s) for s in {cell[0] for cell in cells}
    }
    for sparsity, layers, scores in cells:
        share = shares[sparsity][layers]
        found = prune_and_repair(sparse, before, x, test, share, scores, repairs)
        rows.append({"sparsity": sparsity, "layers": layers, "scores": scores, **found})
        print(rows[-1], flush=True)
    return rows


def means(rows):
    """Returns a dict of the names of cells and steps to the mean accuracy over the seeds."""
    cells = {}
    for row in rows:
        name = f"{row['scores']} {row.get('layers', '')} {row.get('sparsity', '')}".strip()
        for key in ("pruned", "statistics", "least_squares", "repaired"):
            if key in row:
                cells.setdefault(f"{name} {key}", []).append(row[key])
    return {name: statistics.mean(values) for name, values in cells.items()}
