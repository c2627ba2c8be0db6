"""From which step on Conv-4 is stable to the order of the data, on CIFAR-10 at 16 pixels.

Instability analysis of "Linear Mode Connectivity and the Lottery Ticket Hypothesis"
(arXiv:1912.05671) at a size for one CPU core: Conv-4 at a quarter of its width with batch
normalization, images reduced to 16x16 and normalized, Adam 1.2e-3 along a cosine, batch 60, 2,000
steps for every training. The dense network, and tickets with 90% zeros of iterative magnitude
pruning in four levels, are trained twice from steps 0, 100 and 500, with the data in different
orders, and evaluated at 11 points of the line between the two.

    KERAS_BACKEND=tensorflow python benchmarks/stability_cifar10.py --data-dir DIR

The claims, stated before the runs, for the mean of three seeds (0 to 2):

1. The barrier of the dense network and of the ticket falls from step 0 to 100 and to 500.
2. The ticket rewound to step 500 is more accurate than the one rewound to step 0.

The seeds were chosen before, and none is left out. A killed run is resumed when it is started
again, and several processes share the work; see `sharing.py`. About 5 hours on one CPU core.
"""

import argparse
import functools
import pathlib
import statistics

import dynamic_cifar10
import record
import sharing

from tf_lottery.experiments import data
from tf_lottery.experiments.run_folder import read_json
from tf_lottery.experiments.stability import StabilitySettings, run_stability
from tf_lottery.experiments.training import TrainSettings, run_training
from tf_lottery.ticket import Ticket

STEPS_TO_REWIND_TO, LEVELS, SEEDS = (0, 100, 500), 4, range(3)
EPOCHS, STEPS_PER_EPOCH = 4, 500
COMMON = {
    "model": "conv-4-norms-small",
    "epochs": EPOCHS,
    "steps_per_epoch": STEPS_PER_EPOCH,
    "schedule": "cosine",
}


def make_jobs(arrays, folder):
    """Returns the trainings in the order in which they run.

    Args:
        arrays: Function that returns the `Data`.
        folder: Path of the folder of runs.
    """
    return [
        job
        for seed in SEEDS
        for step in STEPS_TO_REWIND_TO
        for job in (
            _search(arrays, step, seed),
            _copies("ticket", arrays, folder, step, seed),
            _copies("dense", arrays, folder, step, seed),
        )
    ]


def name_of(kind, step, seed):
    """Returns the name of the folder of a search or of two copies."""
    return f"{kind}_step_{step}_seed_{seed}"


def _search(arrays, step, seed):
    settings = TrainSettings("imp", sparsity=0.9, levels=LEVELS, rewind_to_step=step, **COMMON)
    return sharing.Job(
        name_of("search", step, seed),
        lambda directory: run_training(arrays(), settings, directory, seed, verbose=0),
    )


def _copies(kind, arrays, folder, step, seed):
    search = name_of("search", step, seed)

    def train(directory):
        is_dense = kind == "dense"
        settings = StabilitySettings(points=11, rewind_to_step=step if is_dense else 0, **COMMON)
        path = folder / search / "search" / f"ticket_{LEVELS:02d}.npz"
        ticket = None if is_dense else Ticket.load(path)
        run_stability(arrays(), settings, directory, seed, ticket, verbose=0)

    return sharing.Job(name_of(kind, step, seed), train, (search,) if kind == "ticket" else ())


def summarize(rows):
    """Returns the means over seeds of every kind of network at every step.

    Args:
        rows: List of dicts of `kind`, `step`, `seed`, and what `run_stability` returns.

    Returns:
        List of dicts of `kind`, `step`, `density`, `seeds`, `error`, the mean of the two copies,
        and `barrier_error` as a dict of `mean`, `min` and `max`.
    """
    cases = {}
    for row in rows:
        cases.setdefault((row["kind"], row["step"]), []).append(row)
    summary = []
    for (kind, step), found in cases.items():
        barriers = [row["barrier_error"] for row in found]
        extremes = {"min": min(barriers), "max": max(barriers)}
        summary.append(
            {
                "kind": kind,
                "step": step,
                "density": found[0]["density"],
                "seeds": len(found),
                "error": statistics.mean((r["errors"][0] + r["errors"][-1]) / 2 for r in found),
                "barrier_error": {"mean": statistics.mean(barriers), **extremes},
            }
        )
    return summary


def main():
    """Trains what is left, and records everything that is finished."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sharing.add_arguments(parser, "stability_cifar10")
    args = parser.parse_args()
    folder = pathlib.Path(args.runs_dir)

    @functools.cache
    def arrays():
        return dynamic_cifar10.prepare(data.load("cifar10", args.data_dir))

    def write():
        rows = []
        for seed in SEEDS:
            for step in STEPS_TO_REWIND_TO:
                for kind in ("ticket", "dense"):
                    if sharing.is_finished(folder, name := name_of(kind, step, seed)):
                        found = read_json(folder / name / "results.json")
                        found.pop("settings")
                        rows.append({"kind": kind, "step": step, "seed": seed, **found})
        record.write(args.record, COMMON, {"summary": summarize(rows), "rows": rows})

    sharing.share(make_jobs(arrays, folder), folder, write, args.trainings)


if __name__ == "__main__":
    main()
