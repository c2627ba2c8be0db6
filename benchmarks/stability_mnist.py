"""How stable LeNet-300-100 on MNIST is to the order of the data, dense and as tickets.

Instability analysis of "Linear Mode Connectivity and the Lottery Ticket Hypothesis"
(arXiv:1912.05671): two copies are trained from the same weights, with Adam 1.2e-3 and batches of 60
in different orders, and evaluated at 30 points of the line between them, three seeds. Tickets are
those of iterative magnitude pruning, with 36% of the weights per level (20% twice), rewound
to the initial weights; every training has three epochs.

    KERAS_BACKEND=jax python benchmarks/stability_mnist.py --data-dir DIR

What it should show: the dense network is stable at initialization, with a barrier below 2% error,
as in the paper, and so are the tickets at 41 to 4.4% density. The same code
finds barriers of about ten percent and more between two networks with initial weights of their own,
dense or with the masks of a ticket.

A killed run is resumed when it is started again. About ten minutes on one CPU core.
"""

import argparse
import dataclasses
import pathlib
import statistics

import record

from tf_lottery.analysis.connectivity_plots import plot_connectivity
from tf_lottery.experiments import data
from tf_lottery.experiments.stability import (
    StabilitySettings,
    read_connectivity,
    run_stability,
)
from tf_lottery.experiments.training import TrainSettings, run_training
from tf_lottery.ticket import Ticket

EPOCHS = 3
LEVELS = 7
SEARCH = TrainSettings("imp", sparsity=1 - 0.64**LEVELS, levels=LEVELS, epochs=EPOCHS)
TICKETS = (2, 4, LEVELS)
SHARED = StabilitySettings(epochs=EPOCHS)
INDEPENDENT = dataclasses.replace(SHARED, start="independent")


def run_seed(arrays, directory, seed):
    """Yields the name of each case and what was found."""
    run_training(arrays, SEARCH, directory / "search", seed, verbose=0)
    tickets = {
        level: Ticket.load(directory / "search" / "search" / f"ticket_{level:02d}.npz")
        for level in TICKETS
    }
    cases = {"dense": (SHARED, None), "dense, independent": (INDEPENDENT, None)}
    cases.update({f"ticket, {t.density:.1%}": (SHARED, t) for t in tickets.values()})
    last = tickets[LEVELS]
    cases[f"masks of {last.density:.1%}, independent"] = (INDEPENDENT, last)
    for i, (name, (settings, ticket)) in enumerate(cases.items()):
        yield name, run_stability(arrays, settings, directory / str(i), seed, ticket, verbose=0)


def summarize(rows):
    """Returns the mean and the extremes over seeds of every case."""
    summary = {}
    for name in dict.fromkeys(row["case"] for row in rows):
        found = [row for row in rows if row["case"] == name]
        barriers = [row["barrier_error"] for row in found]
        summary[name] = {
            "density": found[0]["density"],
            "seeds": len(found),
            "error": statistics.mean((r["errors"][0] + r["errors"][-1]) / 2 for r in found),
            "barrier_error": {
                "mean": statistics.mean(barriers),
                "min": min(barriers),
                "max": max(barriers),
            },
            "barrier_loss": {"mean": statistics.mean(row["barrier_loss"] for row in found)},
        }
    return summary


def main():
    """Runs all seeds, recording the results after each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets")
    parser.add_argument("--runs-dir", default="runs/stability_mnist", help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    mnist = data.load("mnist", args.data_dir)
    rows = []
    for seed in range(args.seeds):
        directory = pathlib.Path(args.runs_dir) / f"seed_{seed}"
        for name, found in run_seed(mnist, directory, seed):
            print(seed, name, f"{found['barrier_error']:.2%}", flush=True)
            numbers = {key: value for key, value in found.items() if key != "settings"}
            rows.append({"case": name, "seed": seed, **numbers})
        settings = {"search": SEARCH.to_dict(), "copies": dataclasses.asdict(SHARED)}
        record.write("stability_mnist", settings, {"summary": summarize(rows), "rows": rows})
        lines = {}
        for row in rows:
            lines.setdefault(row["case"], []).append(read_connectivity(row))
        picture = record.RESULTS / "stability_mnist.png"
        plot_connectivity(lines, picture, title="LeNet-300-100 on MNIST: between two copies")


if __name__ == "__main__":
    main()
