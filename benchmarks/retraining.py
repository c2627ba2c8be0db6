"""Shared by the benchmarks of retraining: tickets, all tweaks and controls, and means."""

import argparse
import dataclasses
import itertools
import pathlib
import statistics

import keras
import record

from tf_lottery import Ticket
from tf_lottery.experiments import data
from tf_lottery.experiments.retraining import RetrainSettings, run_retraining
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


def run_benchmark(name, dataset, model, budget, tweaks, controls=CONTROLS):
    """Retrains tickets in every way with all seeds and records the results after each.

    A killed run is resumed when it is started again.

    Args:
        name: String, the benchmark, which names the file of the results.
        dataset: String, as in `data.load`.
        model: String, a key of `networks.MODELS`.
        budget: `Budget`.
        tweaks: Dict of names to tuples of tweaks, what to retrain with.
        controls: Tuple of names of controls. Defaults to `CONTROLS`.
    """
    args = _parse(name)
    arrays = data.load(dataset, args.data_dir)
    folder, rows = pathlib.Path(args.runs_dir), []
    recorded = {"dataset": dataset, "model": model, **dataclasses.asdict(budget), "tweaks": tweaks}
    seeds = range(args.seeds)
    teachers = [_teacher(arrays, model, budget, folder, seed) for seed in seeds]
    tickets = [_tickets(arrays, model, budget, folder, seed) for seed in seeds]
    cases = [(control, {"control": control}) for control in controls]
    cases += [(case, {"tweaks": tweaks[case]}) for case in tweaks]
    # The highest sparsities come first, since the claim is about these.
    for level, seed, (case, change) in itertools.product(reversed(LEVELS), seeds, cases):
        settings = RetrainSettings(
            model,
            epochs=budget.retraining,
            steps_per_epoch=budget.steps_per_epoch,
            batch_size=budget.batch_size,
            **change,
        )
        directory = folder / f"{case}_level_{level}_seed_{seed}"
        if args.finished and not (directory / "results.json").exists():
            continue
        found = run_retraining(
            arrays, settings, tickets[seed][level], directory, teachers[seed], seed, 0
        )
        rows.append(_row(case, level, seed, found))
        print(case, level, seed, f"{found['test_accuracy']:.4f}", flush=True)
        record.write(args.record, recorded, {"summary": summarize(rows), "rows": rows})


def _row(case, level, seed, found):
    return {
        "case": case,
        "level": level,
        "density": found["density"],
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
        List of dicts of `case`, `level`, `density`, `seeds`, `mean`, `std`, and of `gain`
        and `gain_std` over the seeds for which `"vanilla"` was run too, deviations `None` for a
        single seed.
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
            }
        )
    return summary


def _deviation(values):
    return statistics.stdev(values) if len(values) > 1 else None


def _teacher(arrays, model, budget, folder, seed):
    settings = TrainSettings(
        method="dense",
        model=model,
        epochs=budget.teacher,
        steps_per_epoch=budget.steps_per_epoch,
        batch_size=budget.batch_size,
    )
    directory = folder / f"teacher_seed_{seed}"
    found = run_training(arrays, settings, directory, seed, verbose=0)
    print("teacher", seed, f"{found['test_accuracy']:.4f}", flush=True)
    return keras.saving.load_model(directory / "model.keras")


def _tickets(arrays, model, budget, folder, seed):
    settings = TrainSettings(
        method="imp",
        model=model,
        sparsity=1 - KEPT ** LEVELS[-1],
        levels=LEVELS[-1],
        epochs=budget.search,
        steps_per_epoch=budget.search_steps,
        rewind_to_step=budget.rewind_to_step,
        batch_size=budget.batch_size,
    )
    directory = folder / f"imp_seed_{seed}"
    run_training(arrays, settings, directory, seed, verbose=0)
    return {
        level: Ticket.load(directory / "search" / f"ticket_{level:02d}.npz") for level in LEVELS
    }


def _parse(name):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets")
    parser.add_argument("--runs-dir", default=f"runs/{name}", help="folder of finished runs")
    parser.add_argument("--record", default=name, help="name of the file of results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--finished", action="store_true", help="record, but train nothing")
    return parser.parse_args()
