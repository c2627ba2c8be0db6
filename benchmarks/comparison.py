"""Shared by the benchmarks that compare methods: many resumable trainings, and means."""

import argparse
import dataclasses
import pathlib
import statistics

import record

from tf_lottery.experiments import data
from tf_lottery.experiments.training import run_training


@dataclasses.dataclass(frozen=True)
class Case:
    """A method at a sparsity, trained `length` times as long as a case of length 1.

    Args:
        method: String, as in `TrainSettings` or what `make_settings` knows.
        sparsity: Float. Defaults to `None`, for methods without a given sparsity.
        length: Integer. Defaults to `1`.
    """

    method: str
    sparsity: float | None = None
    length: int = 1

    @property
    def name(self):
        """String, a name for folders."""
        parts = [self.method, self.sparsity and f"{self.sparsity:g}", f"{self.length}x"]
        return "_".join(filter(None, parts))


def run_benchmark(name, dataset, cases, make_settings, steps, on_results=None):
    """Trains all cases with all seeds and records the results after each.

    A killed run is resumed when it is started again.

    Args:
        name: String, the benchmark, which names the file of the results.
        dataset: String, as in `data.load`.
        cases: List of `Case`.
        make_settings: Function of a case and a number of steps to `TrainSettings`.
        steps: Integer, the training steps of a case of length 1.
        on_results: Function that is called with the summary and a path to draw it to, after
            every training. Defaults to `None`.
    """
    args = _parse(name, steps)
    arrays = data.load(dataset, args.data_dir)
    rows, recorded = [], {"dataset": dataset, "steps": args.steps, "cases": {}}
    for seed in range(args.seeds):
        for case in cases:
            settings = make_settings(case, case.length * args.steps)
            directory = pathlib.Path(args.runs_dir) / f"{case.name}_seed_{seed}"
            found = run_training(arrays, settings, directory, seed, verbose=0)
            tested = {key: value for key, value in found.items() if key.startswith("test_")}
            reached = {key: found[key] for key in ("density", "epochs")}
            row = {**dataclasses.asdict(case), "seed": seed, **reached, **tested}
            row.update(_validated(found["history"]))
            print(row, flush=True)
            rows.append(row)
            recorded["cases"][case.name] = settings.to_dict()
            summary = summarize(rows)
            record.write(args.record, recorded, {"summary": summary, "rows": rows})
            if on_results:
                on_results(summary, record.RESULTS / f"{args.record}.png")


def summarize(rows):
    """Returns mean and standard deviation over seeds of every case.

    Args:
        rows: List of dicts with `method`, `sparsity`, `length`, `seed` and test results.

    Returns:
        List of dicts of `method`, `sparsity`, `length`, `seeds`, and for every entry that begins
        with `test_` a dict of `mean` and `std`, `None` for a single seed.
    """
    cases = {}
    for row in rows:
        cases.setdefault((row["method"], row["sparsity"], row["length"]), []).append(row)
    return [
        {
            **dict(zip(("method", "sparsity", "length"), case, strict=True)),
            "seeds": len(found),
            **{key: _mean_and_std(found, key) for key in found[0] if key.startswith("test_")},
        }
        for case, found in cases.items()
    ]


def _validated(history):
    """Returns the final accuracy on held-out examples, for a search also that of each level."""
    if isinstance(history, dict):
        return {"validation_accuracy": history["val_accuracy"][-1]} if history else {}
    levels = [
        {"density": level["density"], "validation_accuracy": level["logs"]["val_accuracy"][-1]}
        for level in history
    ]
    return {"validation_accuracy": levels[-1]["validation_accuracy"], "levels": levels}


def _mean_and_std(rows, key):
    values = [row[key] for row in rows]
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "std": std}


def _parse(name, steps):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets")
    parser.add_argument("--runs-dir", default=f"runs/{name}", help="folder of finished runs")
    parser.add_argument("--record", default=name, help="name of the file of results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=steps, help="of every training")
    return parser.parse_args()
