"""Conv-4 with norms on CIFAR-10 at 16 pixels, trained, then pruned at once with 1,000 images.

A quarter of the usual width, images normalized. Dense: Adam 1.2e-3, batches of 60, 2,000 steps.
Pruned to 50, 70, 80, 90 and 95% zeros by magnitude, by Optimal Brain Surgeon (`scores="obs"`) and
by Wanda, with and without `tfl.repair` after it, which has no labels; the step between the two is
to measure only the statistics of batch normalization anew. Layers have the sparsities that ranking
all magnitudes together gives; by magnitude from 80% on also equal ones, those of ERK, and those
that `tfl.sensitivity` on 2,000 held-out examples allocates, for as many weights and as many bytes.
The comparison is gradual fine-tuning with labels: `GradualMagnitudePruning` for 1,000 more steps of
Adam 1.2e-3 along a cosine, all magnitudes ranked together, updates every 50 steps.

    KERAS_BACKEND=tensorflow python benchmarks/one_shot_cnn.py --data-dir DIR

The claims, stated before the runs, for means of three seeds with the global ranking:

1. Repair after pruning by magnitude is above measuring only the statistics anew, from 70% on.
2. OBS is above magnitude at every sparsity, statistics measured anew in both, and the repair
   brings both at most a point below what OBS has without it, or above.
3. Wanda is not above OBS from 70% on.
4. Repaired networks lose at most 1 point at 50% and 3 at 70%. Gradual fine-tuning is above every
   network without training from 80% on: labels and 1,000 steps are worth more than a refit.
5. By magnitude, allocated sparsities are above equal ones at 80% and 90%, with as many weights and
   with as many bytes, and not below those of ERK by more than a point.

Found: all five hold, beside the dense network whose statistics were measured anew. Not foreseen: at
95% new statistics and a repair lower the accuracy of OBS, from 36 to 31 and 32 percent.

The seeds 0, 1 and 2 were chosen before. A killed run is resumed when it is started again, and
several processes share the work; see `sharing.py`. About 15 minutes of one core.
"""

import argparse
import functools
import pathlib

import keras
import one_shot
import record
import sharing

import tf_lottery as tfl
from tf_lottery.callbacks import GradualMagnitudePruning
from tf_lottery.experiments import data
from tf_lottery.experiments.batches import ShuffledBatches
from tf_lottery.experiments.compiling import compile_classifier
from tf_lottery.experiments.optimizer_settings import OptimizerSettings
from tf_lottery.experiments.run_folder import read_json, write_json
from tf_lottery.experiments.training import TrainSettings, run_training

MODEL, SEEDS, SPARSITIES = "conv-4-norms-small", range(3), (0.5, 0.7, 0.8, 0.9, 0.95)
NUM_EXAMPLES, NUM_HELD_OUT, BATCH_SIZE = 1000, 2000, 60
DENSE_STEPS, STEPS, FREQUENCY = 2000, 1000, 50
SPREAD = (0.8, 0.9, 0.95)
CELLS = [
    *((s, "global", scores) for s in SPARSITIES for scores in ("magnitude", "obs", "wanda")),
    *((s, layers, "magnitude") for s in SPREAD for layers in one_shot.LAYERS if layers != "global"),
]


def train_dense(directory, arrays, seed):
    """Trains the dense network."""
    settings = TrainSettings(
        "dense", MODEL, epochs=1, steps_per_epoch=DENSE_STEPS, batch_size=BATCH_SIZE
    )
    run_training(arrays(), settings, directory, seed, verbose=0)


def prune_at_once(directory, dense, arrays):
    """Records the rows of all cells of one seed."""
    directory.mkdir(parents=True, exist_ok=True)
    found, sparse = arrays(), sparse_model(dense)
    held_out = tuple(array[:NUM_HELD_OUT] for array in found.validation)
    x = found.train[0][:NUM_EXAMPLES]
    rows = one_shot.rows_of_network(sparse, held_out, x, found.test, CELLS)
    write_json(directory / "results.json", {"rows": rows})


def prune_gradually(directory, dense, arrays, sparsity, seed):
    """Records the row of one gradual fine-tuning."""
    directory.mkdir(parents=True, exist_ok=True)
    found, sparse = arrays(), sparse_model(dense)
    batches = ShuffledBatches(*found.train, BATCH_SIZE, STEPS, seed)
    pruning = GradualMagnitudePruning(sparsity, frequency=FREQUENCY, scope="global")
    sparse.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[pruning])
    row = {"sparsity": sparsity, "layers": "global", "scores": "gradual"}
    row["pruned"] = one_shot.accuracy(sparse, found.test)
    write_json(directory / "results.json", {"rows": [row]})


def sparse_model(directory):
    """Returns the trained network of a folder, to be trained on for `STEPS`."""
    sparse = tfl.sparsify(keras.saving.load_model(directory / "model.keras"))
    return compile_classifier(sparse, OptimizerSettings(schedule="cosine").make_optimizer(STEPS))


def make_jobs(arrays, folder):
    """Returns the jobs, all of a seed before the next.

    Args:
        arrays: Function that returns the `Data`.
        folder: Path of the folder of runs.
    """
    jobs = []
    for seed in SEEDS:
        dense = folder / f"dense_seed_{seed}"
        train = functools.partial(train_dense, arrays=arrays, seed=seed)
        prune = functools.partial(prune_at_once, dense=dense, arrays=arrays)
        jobs.append(sharing.Job(dense.name, train))
        jobs.append(sharing.Job(f"one_shot_seed_{seed}", prune, (dense.name,)))
        for s in SPARSITIES:
            prune = functools.partial(
                prune_gradually, dense=dense, arrays=arrays, sparsity=s, seed=seed
            )
            jobs.append(sharing.Job(f"gradual_{s:g}_seed_{seed}", prune, (dense.name,)))
    return jobs


def write_record(name, jobs, folder):
    """Records everything that has ended."""
    rows = [
        {"seed": int(job.name[-1]), **row}
        for job in jobs
        if not job.name.startswith("dense") and sharing.is_finished(folder, job.name)
        for row in read_json(folder / job.name / "results.json")["rows"]
    ]
    settings = {
        "model": MODEL,
        "examples": NUM_EXAMPLES,
        "held_out": NUM_HELD_OUT,
        "dense_steps": DENSE_STEPS,
        "gradual_steps": STEPS,
        "seeds": list(SEEDS),
    }
    record.write(name, settings, {"means": one_shot.means(rows), "rows": rows})


def main():
    """Makes what is not made yet, and records it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sharing.add_arguments(parser, "one_shot_cnn")
    args = parser.parse_args()
    folder = pathlib.Path(args.runs_dir)

    @functools.cache
    def arrays():
        return data.load("cifar10", args.data_dir, image_size=16, normalize=True)

    jobs = make_jobs(arrays, folder)
    sharing.share(jobs, folder, lambda: write_record(args.record, jobs, folder), args.trainings)


if __name__ == "__main__":
    main()
