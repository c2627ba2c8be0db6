"""Shared by the benchmarks beside other libraries: equal data, initial weights and batches.

The other library trains in an environment of its own, in a process that `run_peer` starts and
`peer_process.py` serves. Several processes can work on the trainings of a benchmark; see
`sharing.py`.
"""

import dataclasses
import json
import os
import subprocess

import numpy as np
from comparison import cell_name, differences, summarize

from tf_lottery.experiments import networks
from tf_lottery.experiments.batches import ShuffledBatches
from tf_lottery.experiments.run_folder import read_json, write_json

# Examples whose logits have to be equal before training.
_COMPARED = 20


def run_peer(python, script, directory, job, data, settings, seed):
    """Trains in another environment and writes `results.json`.

    Args:
        python: The Python of the environment.
        script: The benchmark, which with `--serve DIRECTORY` calls `peer_process.serve`.
        directory: Path of the folder of the training.
        job: Dict of the arguments of the training there.
        data: `Data`.
        settings: `TrainSettings` with the network, the batches and the length.
        seed: Integer.
    """
    directory.mkdir(parents=True, exist_ok=True)
    inputs = directory / "inputs.npz"
    np.savez(inputs, **_arrays(data, settings, seed))
    write_json(directory / "job.json", job)
    variables = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([python, script, "--serve", str(directory)], env=variables, check=True)
    inputs.unlink()
    found = json.loads((directory / "peer.json").read_text())
    write_json(directory / "results.json", {**found, "job": job, "seed": seed})


def _arrays(data, settings, seed):
    """Returns what the other library trains with."""
    model = networks.build(settings.model, data, seed)
    (x, y), (test_x, test_y) = data.train, data.test
    return {
        **{"x": x, "y": y, "test_x": test_x, "test_y": test_y},
        "order": _order(len(y), settings, seed),
        "logits": model.predict(test_x[:_COMPARED], verbose=0),
        **{f"weight_{i}": weights for i, weights in enumerate(model.get_weights())},
    }


def _order(count, settings, seed):
    """Returns the numbers of the examples of every batch, as `run_training` chooses them."""
    numbers = np.arange(count, dtype="int32")
    how = settings.batch_size, settings.steps_per_epoch, seed
    batches, order = ShuffledBatches(numbers, numbers, *how), []
    for batches.epoch in range(settings.epochs * settings.num_trainings):
        order += [batches[step][0] for step in range(len(batches))]
    return np.stack(order)


def read_rows(folder, cells, prefix=""):
    """Returns what was reached by the trainings that have ended, and versions of the other library.

    Args:
        folder: Path of the folder of runs.
        cells: List of pairs of a `comparison.Case` and a seed.
        prefix: String before the names of the folders. Defaults to `""`.

    Returns:
        List of dicts as `comparison.summarize` takes them, and a dict of versions.
    """
    rows, versions = [], {}
    for case, seed in cells:
        path = folder / f"{prefix}{cell_name(case, seed)}" / "results.json"
        if not path.exists():
            continue
        found = read_json(path)
        versions = found.get("versions", versions)
        reached = {key: found[key] for key in ("density", "test_accuracy")}
        rows.append({**dataclasses.asdict(case), "seed": seed, **reached})
    return rows, versions


def compare(rows, pairs):
    """Returns means over seeds, and differences seed by seed.

    Args:
        rows: List of dicts; see `read_rows`.
        pairs: Tuple of pairs of methods, the one claimed to be better first.
    """
    return {"summary": summarize(rows), "differences": differences(rows, pairs), "rows": rows}
