"""Lottery tickets in LeNet-300-100 on MNIST against random reinitialization.

Figures 3 and 4 of "The Lottery Ticket Hypothesis" (arXiv:1803.03635): Adam 1.2e-3, batch 60,
20% of the weights pruned per level (10% in the output layer), 15 levels of 12,000 steps,
evaluated on 5,000 held-out examples every 100 steps, three replicates.

    KERAS_BACKEND=jax python benchmarks/lottery_mnist.py --data-dir DIR

What it should show: the ticket at 21% density reaches its lowest validation loss at least 25%
earlier than the dense network (the paper: 38%), the same mask with new weights at least 1.5
times later than the ticket (2.51 times); tickets down to 3.6% are as accurate as the dense
network within 0.3 points; reinitialized networks fall below the tickets at 13% and under.

A killed run is resumed when it is started again. About half an hour on one CPU core.
"""

import argparse
import dataclasses
import pathlib
import statistics

import record

from tf_lottery.analysis.plots import plot_lottery
from tf_lottery.experiments import data
from tf_lottery.experiments.lottery import LotterySettings, run_lottery


def summarize(rows):
    """Returns the numbers that the claims are about, as means over replicates."""

    def mean(kind, level, key):
        return statistics.mean(r[key] for r in rows if (r["kind"], r["level"]) == (kind, level))

    levels = sorted({row["level"] for row in rows if row["kind"] == "ticket"})
    controls = sorted({row["level"] for row in rows if row["kind"] == "reinitialized"})
    dense = mean("ticket", 0, "iteration")
    summary = {
        "density": {level: mean("ticket", level, "density") for level in levels},
        "ticket_iteration": {level: mean("ticket", level, "iteration") for level in levels},
        "ticket_test_accuracy": {level: mean("ticket", level, "test_accuracy") for level in levels},
        "reinitialized_iteration": {
            level: mean("reinitialized", level, "iteration") for level in controls
        },
        "reinitialized_test_accuracy": {
            level: mean("reinitialized", level, "test_accuracy") for level in controls
        },
    }
    if 7 in controls:
        ticket = mean("ticket", 7, "iteration")
        summary["ticket_at_21_percent_earlier_than_dense"] = 1 - ticket / dense
        summary["reinitialized_at_21_percent_later_than_ticket"] = (
            mean("reinitialized", 7, "iteration") / ticket
        )
    return summary


def main():
    """Runs the replicates, recording the results after each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets")
    parser.add_argument("--runs-dir", default="runs/lottery_mnist", help="folder for tickets")
    parser.add_argument("--replicates", type=int, default=3)
    args = parser.parse_args()
    settings = LotterySettings(control_levels=(3, 5, 7, 9, 11, 13, 15))
    mnist = data.load("mnist", args.data_dir)
    rows = []
    for seed in range(args.replicates):
        directory = pathlib.Path(args.runs_dir) / f"replicate_{seed}"
        found = run_lottery(mnist, settings, directory, seed, verbose=1)
        rows += [{"replicate": seed, **row} for row in found]
        recorded = {**dataclasses.asdict(settings), "replicates": seed + 1}
        record.write("lottery_mnist", recorded, {"summary": summarize(rows), "rows": rows})
        plot_lottery(rows, record.RESULTS / "lottery_mnist.png", title="LeNet-300-100 on MNIST")


if __name__ == "__main__":
    main()
