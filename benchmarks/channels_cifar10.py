"""Accuracy at half of the FLOPs, by channels that vanish: ResNet-8 on CIFAR-10 at 16 pixels.

A dense network is trained for 600 steps for each seed. Channels are then pruned to half of the
FLOPs by four scores, in two ways: at once, with `tfl.compact` and 300 steps of fine-tuning of the
smaller plain Keras network; or gradually over 225 of 300 steps, with `tfl.compact` at the end.
The dense network goes on for 300 steps too. Adam 1e-3 with a cosine for each part, batch 64.
Channels of all groups are ranked together (`scope="global"`); Taylor scores are measured on 1,000
training images, in gradual pruning anew for every update.

    KERAS_BACKEND=tensorflow python benchmarks/channels_cifar10.py --data-dir DIR

The claims, stated before the runs, for the mean of differences with the same seed:

1. What is left of the FLOPs is at most 0.50 and at least 0.48 in every compacted network.
2. Norm scale and Taylor are better than random channels, in both ways, and L1 is not worse.
3. Gradual pruning is at least as good as pruning at once, for every score.
4. The best of them is within three points of the dense network that went on for as many steps.

The seeds 0, 1 and 2 were chosen before, and none is left out. A killed run is resumed when it is
started again, and several processes share the work; see `sharing.py`. All trainings take about
ten minutes of one core.
"""

import argparse
import functools
import itertools
import pathlib
import statistics

import keras
import numpy as np
import record
import sharing

import tf_lottery as tfl
from tf_lottery.callbacks import GradualMagnitudePruning
from tf_lottery.experiments import data, models
from tf_lottery.experiments.batches import ShuffledBatches
from tf_lottery.experiments.compiling import compile_classifier
from tf_lottery.experiments.fitting import evaluate_classifier
from tf_lottery.experiments.optimizer_settings import OptimizerSettings
from tf_lottery.experiments.run_folder import read_json, save_model, write_json

SCORES, WAYS, SEEDS = ("l1", "norm_scale", "taylor", "random"), ("one_shot", "gradual"), range(3)
BUDGET, SCOPE = {"flops": 0.5}, "global"
IMAGE_SIZE, BATCH_SIZE, LEARNING_RATE = 16, 64, 1e-3
DENSE_STEPS, STEPS, FREQUENCY = 600, 300, 15
SCORED_BATCHES, SCORED_BATCH_SIZE = 10, 100
DENSE, LONGER = "dense", "dense_longer"
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class GradualByScores(GradualMagnitudePruning):
    """Gradual pruning whose scores are measured anew for every update.

    Args:
        measure: Function of a `SparseModel` to what `tfl.prune` takes as `scores`.
        **kwargs: As in `GradualMagnitudePruning`.
    """

    def __init__(self, measure, **kwargs):
        super().__init__(**kwargs)
        self._measure = measure

    def on_step(self):
        """Measures the scores and prunes."""
        self.scores = self._measure(self.model)
        super().on_step()


def scores_of(sparse, name, train, seed):
    """Returns what `tfl.prune` takes as `scores`."""
    if name == "random":
        rng = np.random.default_rng(seed)
        return {group.name: rng.random(group.width) for group in sparse.groups}
    if name != "taylor":
        return name
    chosen = np.random.default_rng(seed).permutation(len(train[1]))
    chosen = chosen[: SCORED_BATCHES * SCORED_BATCH_SIZE].reshape(SCORED_BATCHES, -1)
    return tfl.channel_scores(sparse, name, [(train[0][i], train[1][i]) for i in chosen], loss=LOSS)


def fit(model, arrays, steps, seed, callbacks=()):
    """Trains a model for some steps; the learning rate falls to zero along a cosine."""
    settings = OptimizerSettings(learning_rate=LEARNING_RATE, schedule="cosine")
    compile_classifier(model, settings.make_optimizer(steps))
    batches = ShuffledBatches(*arrays.train, BATCH_SIZE, steps, seed)
    model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=list(callbacks))


def prune_at_once(sparse, name, arrays, seed):
    """Returns the smaller network, fine-tuned, and its accuracy before."""
    scores = scores_of(sparse, name, arrays.train, seed)
    tfl.prune(sparse, budget=BUDGET, scores=scores, scope=SCOPE)
    small = compile_classifier(tfl.compact(sparse)[0], "adam")
    before = evaluate_classifier(small, arrays)["test_accuracy"]
    fit(small, arrays, STEPS, seed)
    return small, {"test_accuracy_before_fine_tuning": before}


def prune_gradually(sparse, name, arrays, seed):
    """Returns the smaller network after pruning it gradually."""
    pruning = GradualByScores(
        lambda model: scores_of(model, name, arrays.train, seed),
        budget=BUDGET,
        frequency=FREQUENCY,
        scope=SCOPE,
    )
    fit(sparse, arrays, STEPS, seed, [pruning])
    return compile_classifier(tfl.compact(sparse)[0], "adam"), {}


def finish(directory, model, arrays, **found):
    """Writes the results of a training, which end it."""
    costs = {"parameters": model.count_params(), "flops": tfl.flops(model, "mac").dense}
    write_json(directory / "results.json", {**evaluate_classifier(model, arrays), **costs, **found})


def make_jobs(arrays, folder):
    """Returns the trainings, all of a seed before the next.

    Args:
        arrays: Function that returns the `Data`.
        folder: Path of the folder of runs.
    """

    def train_dense(directory, seed):
        shape = (IMAGE_SIZE, IMAGE_SIZE, 3)
        directory.mkdir(parents=True, exist_ok=True)
        model = models.resnet(8, shape, seed=seed)
        fit(model, arrays(), DENSE_STEPS, seed)
        save_model(model, directory / "model.keras")
        finish(directory, model, arrays())

    def go_on(directory, seed, name=None, way=None):
        directory.mkdir(parents=True, exist_ok=True)
        model = keras.saving.load_model(folder / cell_name(DENSE, None, seed) / "model.keras")
        if way is None:
            fit(model, arrays(), STEPS, seed)
            return finish(directory, model, arrays())
        prune = prune_at_once if way == "one_shot" else prune_gradually
        sparse = tfl.sparsify(model, pattern="channel")
        small, found = prune(sparse, name, arrays(), seed)
        return finish(directory, small, arrays(), **found)

    jobs = []
    for seed in SEEDS:
        dense = cell_name(DENSE, None, seed)
        jobs.append(sharing.Job(dense, functools.partial(train_dense, seed=seed)))
        for name, way in cases()[1:]:
            given = {} if way is None else {"name": name, "way": way}
            train = functools.partial(go_on, seed=seed, **given)
            jobs.append(sharing.Job(cell_name(name, way, seed), train, (dense,)))
    return jobs


def cases():
    """Returns pairs of what was trained, and how it was pruned."""
    return [(DENSE, None), (LONGER, None), *itertools.product(SCORES, WAYS)]


def cell_name(name, way, seed):
    """Returns the name of a training's folder."""
    return "_".join([name, *([way] if way else []), "seed", str(seed)])


def write_record(name, folder):
    """Records all trainings that have ended."""
    rows = [
        {"case": case, "way": way, "seed": seed, **read_json(folder / cell / "results.json")}
        for seed in SEEDS
        for case, way in cases()
        if sharing.is_finished(folder, cell := cell_name(case, way, seed))
    ]
    settings = {
        "model": "resnet_8",
        "image_size": IMAGE_SIZE,
        "batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "dense_steps": DENSE_STEPS,
        "steps": STEPS,
        "frequency": FREQUENCY,
        "budget": BUDGET,
        "scope": SCOPE,
        "seeds": list(SEEDS),
    }
    record.write(name, settings, {"summary": summarize(rows), "rows": rows})


def summarize(rows):
    """Returns for every case the means over seeds, and the differences to others by seed.

    Args:
        rows: List of dicts of `case`, `way`, `seed`, `test_accuracy`, `flops` and `parameters`.

    Returns:
        List of dicts. `to_dense_longer`, `to_random` and `to_one_shot` are differences of test
        accuracies with the same seed, as all others with `mean` and `std`, `None` where there are
        too few.
    """
    found = {(row["case"], row["way"], row["seed"]): row for row in rows}
    summary = []
    for case, way in cases():
        own = [found[case, way, seed] for seed in SEEDS if (case, way, seed) in found]
        if not own:
            continue
        dense = [found[DENSE, None, row["seed"]] for row in own]
        others = {"to_dense_longer": (LONGER, None), "to_random": ("random", way)}
        others["to_one_shot"] = (case, "one_shot")
        summary.append(
            {
                "case": case,
                "way": way,
                "seeds": len(own),
                "test_accuracy": spread(row["test_accuracy"] for row in own),
                **{
                    f"{kind}_left": spread(
                        row[kind] / first[kind] for row, first in zip(own, dense, strict=True)
                    )
                    for kind in ("flops", "parameters")
                },
                **{
                    key: spread(
                        row["test_accuracy"] - found[*other, row["seed"]]["test_accuracy"]
                        for row in own
                        if (*other, row["seed"]) in found
                    )
                    for key, other in others.items()
                },
            }
        )
    return summary


def spread(values):
    """Returns mean and standard deviation of numbers, `None` where there are too few."""
    values = list(values)
    return {
        "mean": statistics.mean(values) if values else None,
        "std": statistics.stdev(values) if len(values) > 1 else None,
    }


def main():
    """Trains what is not trained yet and records it."""
    parser = argparse.ArgumentParser()
    sharing.add_arguments(parser, "channels_cifar10")
    args = parser.parse_args()
    folder = pathlib.Path(args.runs_dir)

    @functools.cache
    def arrays():
        return data.load("cifar10", args.data_dir, image_size=IMAGE_SIZE, normalize=True)

    jobs = make_jobs(arrays, folder)
    sharing.share(jobs, folder, lambda: write_record(args.record, folder), args.trainings)


if __name__ == "__main__":
    main()
