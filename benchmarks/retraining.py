"""Shared by the benchmarks of retraining: tickets, all tweaks and controls, and means."""

import argparse
import dataclasses
import functools
import itertools
import pathlib
import statistics

import keras
import record
import sharing

from tf_lottery import Ticket
from tf_lottery.experiments import data
from tf_lottery.experiments.retraining import RetrainSettings, run_retraining
from tf_lottery.experiments.run_folder import read_json
from tf_lottery.experiments.training import TrainSettings, run_training

# Each level keeps 56% of the weights, so that the last four have 82, 90, 94.5 and 97% zeros.
KEPT, LEVELS = 0.56, (3, 4, 5, 6)
PAPER = ("soft_activations", "ghost_skips", "rescaled_initialization", "label_smoothing")
CONTROLS = ("random_reinitialization", "shuffled_masks", "sign_kept_reinitialization")


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long networks are trained, in epochs of `steps_per_epoch` steps.

    Args:
        search: Integer, the epochs of every level of the search for tickets.
        search_steps: Integer, the steps of such an epoch.
        rewind_to_step: Integer.
        teacher: Integer, the epochs of the dense teacher.
        retraining: Integer, the epochs of every retraining.
        steps_per_epoch: Integer, of the teacher and of retraining.
        batch_size: Integer.
    """

    search: int
    search_steps: int
    rewind_to_step: int
    teacher: int
    retraining: int
    steps_per_epoch: int
    batch_size: int


def run_benchmark(
    name,
    dataset,
    model,
    budget,
    tweaks,
    controls=CONTROLS,
    *,
    levels=LEVELS,
    claimed=(),
    prepare=None,
    optimizer=None,
    seeds=3,
):
    """Retrains tickets in every way with all seeds and records the results after each.

    Several processes can work on it at once; see `sharing.py`.

    Args:
        name: String, the benchmark, which names the file of the results.
        dataset: String, as in `data.load`.
        model: String, a key of `networks.MODELS`.
        budget: `Budget`.
        tweaks: Dict of names to tuples of tweaks, or to dicts of arguments of `RetrainSettings`:
            what to retrain with.
        controls: Tuple of names of controls. Defaults to `CONTROLS`.
        levels: Tuple of the levels of the tickets, the highest of which comes first, since the
            claims are about it. Defaults to `LEVELS`.
        claimed: Tuple of names that claims are about, which come first and have `--seeds` seeds,
            while the others have at most three. Defaults to `()`: all have the same.
        prepare: Function of `Data` to the `Data` to train with. Defaults to `None`.
        optimizer: Dict of arguments of `OptimizerSettings`, for all trainings. Defaults to `None`.
        seeds: Integer. Defaults to `3`.
    """
    args = _parse(name, seeds)
    folder, optimizer = pathlib.Path(args.runs_dir), optimizer or {}

    @functools.cache
    def arrays():
        found = data.load(dataset, args.data_dir)
        return prepare(found) if prepare else found

    changes = {control: {"control": control} for control in controls}
    changes.update({k: v if isinstance(v, dict) else {"tweaks": v} for k, v in tweaks.items()})
    first = {"imp": _search(model, budget, optimizer)}
    if any("distillation" in change.get("tweaks", ()) for change in changes.values()):
        first["teacher"] = _teacher(model, budget, optimizer)
    retrainings = {
        case: _retraining(model, budget, {**optimizer, **change})
        for case, change in changes.items()
    }
    cells = _cells(changes, levels, args.seeds, claimed)
    jobs = [
        _first_job(arrays, kind, settings, seed)
        for seed in range(args.seeds)
        for kind, settings in first.items()
    ]
    jobs += [_job(arrays, folder, retrainings[cell[0]], cell, tuple(first)) for cell in cells]
    recorded = {"dataset": dataset, "model": model, **dataclasses.asdict(budget)}
    recorded.update({"tweaks": tweaks, "optimizer": optimizer})

    def write():
        rows = [
            _row(*cell, read_json(folder / _name(*cell) / "results.json"))
            for cell in cells
            if sharing.is_finished(folder, _name(*cell))
        ]
        record.write(args.record, recorded, {"summary": summarize(rows), "rows": rows})

    if args.finished:
        write()
    else:
        sharing.share(jobs, folder, write, args.trainings)


def _first_job(arrays, kind, settings, seed):
    """Returns the job of a training that retrainings need: a search for tickets or a teacher."""

    def train(directory):
        run_training(arrays(), settings, directory, seed, verbose=0)

    return sharing.Job(f"{kind}_seed_{seed}", train)


def _job(arrays, folder, settings, cell, kinds):
    """Returns the job of a retraining, which needs the first trainings of some kinds."""
    _, level, seed = cell

    def train(directory):
        ticket = Ticket.load(folder / f"imp_seed_{seed}/search/ticket_{level:02d}.npz")
        path = folder / f"teacher_seed_{seed}/model.keras"
        teacher = keras.saving.load_model(path) if "teacher" in kinds else None
        run_retraining(arrays(), settings, ticket, directory, teacher, seed, 0)

    return sharing.Job(_name(*cell), train, tuple(f"{kind}_seed_{seed}" for kind in kinds))


def _cells(changes, levels, seeds, claimed):
    """Returns tuples of case, level and seed, in the order in which they run."""
    highest_first = sorted(levels, reverse=True)
    if not claimed:
        ordered = itertools.product(highest_first, range(seeds), changes)
        return [(case, level, seed) for level, seed, case in ordered]
    rest = [case for case in changes if case not in claimed]
    return [
        (case, level, seed)
        for level in highest_first
        for cases, count in ((claimed, seeds), (rest, min(seeds, 3)))
        for seed in range(count)
        for case in cases
    ]


def _name(case, level, seed):
    return f"{case}_level_{level}_seed_{seed}"


def _row(case, level, seed, found):
    return {
        "case": case,
        "level": level,
        "density": found["density"],
        "parameters": found.get("parameters"),
        "seed": seed,
        "test_accuracy": found["test_accuracy"],
        "test_loss": found["test_loss"],
        "validation_accuracy": found["history"]["val_accuracy"],
    }


def summarize(rows):
    """Returns mean and deviation of every case at every level, and its gain over plain retraining.

    Args:
        rows: List of dicts of `case`, `level`, `density`, `seed` and `test_accuracy`.

    Returns:
        List of dicts of `case`, `level`, `density`, `seeds`, `mean`, `std`, and of `gain`,
        `gain_std` and `gain_error`, the standard error of the mean gain, over the seeds for which
        `"vanilla"` was run too, deviations `None` for a single seed.
    """
    cases, vanilla = {}, {}
    for row in rows:
        cases.setdefault((row["case"], row["level"]), []).append(row)
        if row["case"] == "vanilla":
            vanilla[row["level"], row["seed"]] = row["test_accuracy"]
    summary = []
    for (case, level), found in cases.items():
        values = [row["test_accuracy"] for row in found]
        gains = [
            row["test_accuracy"] - vanilla[level, row["seed"]]
            for row in found
            if (level, row["seed"]) in vanilla
        ]
        summary.append(
            {
                "case": case,
                "level": level,
                "density": statistics.mean(row["density"] for row in found),
                "seeds": len(found),
                "mean": statistics.mean(values),
                "std": _deviation(values),
                "gain": statistics.mean(gains) if gains else None,
                "gain_std": _deviation(gains),
                "gain_error": _deviation(gains) / len(gains) ** 0.5 if len(gains) > 1 else None,
            }
        )
    return summary


def _deviation(values):
    return statistics.stdev(values) if len(values) > 1 else None


def _teacher(model, budget, optimizer):
    return TrainSettings(
        method="dense",
        model=model,
        epochs=budget.teacher,
        steps_per_epoch=budget.steps_per_epoch,
        batch_size=budget.batch_size,
        **optimizer,
    )


def _retraining(model, budget, changes):
    return RetrainSettings(
        model,
        epochs=budget.retraining,
        steps_per_epoch=budget.steps_per_epoch,
        batch_size=budget.batch_size,
        **changes,
    )


def _search(model, budget, optimizer):
    return TrainSettings(
        method="imp",
        model=model,
        sparsity=1 - KEPT ** LEVELS[-1],
        levels=LEVELS[-1],
        epochs=budget.search,
        steps_per_epoch=budget.search_steps,
        rewind_to_step=budget.rewind_to_step,
        batch_size=budget.batch_size,
        **optimizer,
    )


def _parse(name, seeds):
    parser = argparse.ArgumentParser()
    sharing.add_arguments(parser, name)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--finished", action="store_true", help="record, but train nothing")
    return parser.parse_args()
