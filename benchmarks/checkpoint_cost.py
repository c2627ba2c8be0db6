"""The checkpoint of a ticket search of ResNet-50 with Adam: time and memory.

    python benchmarks/checkpoint_cost.py

What it should show: saving the three snapshots of a search takes at most 1.5 times as long as
`np.savez` of the same arrays into a new file, followed by `fsync`, and at most 1.2 times the memory
of the arrays.
"""

import functools
import os
import pathlib
import resource
import statistics
import tempfile
import time

import keras
import numpy as np
import record

import tf_lottery as tfl
from tf_lottery import files
from tf_lottery.callbacks.search_state import SearchState

ROUNDS = 3


def seconds(function):
    """Returns how long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def savez(path, arrays):
    """Writes arrays in NumPy's way, and waits for the disk."""
    with open(path, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())


def peak_bytes():
    """Returns the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    """Measures both alternately and records medians."""
    model = tfl.sparsify(keras.applications.ResNet50(weights=None))
    model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    snapshots = [tfl.Snapshot(model) for _ in range(3)]
    names = ("now/", "start/", "rewind_point/")
    arrays = {}
    for name, snapshot in zip(names, snapshots, strict=True):
        arrays.update(snapshot.to_arrays(name))
    num_bytes = sum(array.nbytes for array in arrays.values())
    times = {"savez": [], "checkpoint": [], "load": []}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        state = SearchState(folder, {})
        before = peak_bytes()
        for _ in range(ROUNDS):
            times["checkpoint"].append(seconds(lambda: state.save({}, *snapshots)))
            added = peak_bytes() - before
            plain = pathlib.Path(folder) / "plain.npz"
            times["savez"].append(seconds(functools.partial(savez, plain, arrays)))
            # A checkpoint is always a new file, since the old one must survive a kill.
            plain.unlink()
        times["load"].append(seconds(lambda: files.load_arrays(state.path, "search")))
        size = pathlib.Path(state.path).stat().st_size
    results = {
        "seconds": {name: statistics.median(values) for name, values in times.items()},
        "time_ratio": statistics.median(times["checkpoint"]) / statistics.median(times["savez"]),
        "memory_ratio": (num_bytes + added) / num_bytes,
        "array_bytes": num_bytes,
        "file_bytes": size,
    }
    record.write("checkpoint_cost", {"model": "ResNet50", "optimizer": "adam"}, results)
    print(results)


if __name__ == "__main__":
    main()
