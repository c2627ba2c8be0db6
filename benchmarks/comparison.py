"""Shared by the benchmarks that compare methods: many resumable trainings, and means.

Several processes can work on them at once; see `sharing.py`.
"""

import argparse
import dataclasses
import functools
import itertools
import math
import pathlib
import statistics

import record
import sharing

from tf_lottery.experiments import data
from tf_lottery.experiments.run_folder import read_json
from tf_lottery.experiments.training import run_training
from tf_lottery.ticket import Ticket

# Which methods the papers find better than which.
PAIRS = (
    ("rigl", "static"),
    ("set", "static"),
    ("rigl", "set"),
    ("snfs", "rigl"),
    ("snip", "static"),
    ("grasp", "static"),
    ("synflow", "static"),
    ("gmp", "rigl"),
    ("cs", "imp_equal"),
    ("cs_adam", "imp_equal"),
    ("cs", "cs_adam"),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A method at a sparsity, trained `length` times as long as a case of length 1.

    Args:
        method: String, as in `TrainSettings` or what `make_settings` knows.
        sparsity: Float. Defaults to `None`, for methods without a given sparsity.
        length: Integer. Defaults to `1`.
        optimizer: String, as in `TrainSettings`. Defaults to `"adam"`.
        distribution: String, as in `TrainSettings`. Defaults to `None`: the method's default.
        rescale: Boolean, as in `TrainSettings`. Defaults to `None`: without normalization.
    """

    method: str
    sparsity: float | None = None
    length: int = 1
    optimizer: str = "adam"
    distribution: str | None = None
    rescale: bool | None = None

    @property
    def name(self):
        """String, a name for folders."""
        parts = [self.method, self.sparsity and f"{self.sparsity:g}", f"{self.length}x"]
        parts += [self.optimizer if self.optimizer != "adam" else None, self.distribution]
        parts += [{True: "rescaled", False: "not_rescaled"}.get(self.rescale)]
        return "_".join(filter(None, parts))


def run_benchmark(
    name, dataset, cases, make_settings, steps, on_results=None, prepare=None, seeds=3
):
    """Trains all cases with all seeds and records the results after each.

    Args:
        name: String, the benchmark, which names the file of the results.
        dataset: String, as in `data.load`.
        cases: List of `Case`, all of which run with one seed before the next; or of pairs of a
            case and a seed, in the order in which they run.
        make_settings: Function of a case and a number of steps to `TrainSettings`.
        steps: Integer, the training steps of a case of length 1.
        on_results: Function that is called with the summary and a path to draw it to, after
            every training. Defaults to `None`.
        prepare: Function of `Data` to the `Data` to train with. Defaults to `None`.
        seeds: Integer, how many seeds cases without a seed have. Defaults to `3`.
    """
    args = _parse(name, steps, seeds)
    cells = list(cases)
    if not isinstance(cells[0], tuple):
        cells = [(case, seed) for seed in range(args.seeds) for case in cases]
    folder = pathlib.Path(args.runs_dir)

    @functools.cache
    def arrays():
        found = data.load(dataset, args.data_dir)
        return prepare(found) if prepare else found

    def job(case, seed):
        def train(directory):
            settings = make_settings(case, case.length * args.steps)
            run_training(arrays(), settings, directory, seed, verbose=0)

        return sharing.Job(cell_name(case, seed), train)

    @functools.cache
    def ended(case, seed):
        # What a training that has ended is recorded with does not change.
        return read_training(folder / cell_name(case, seed))

    def write():
        found = {
            cell: ended(*cell) for cell in cells if sharing.is_finished(folder, cell_name(*cell))
        }
        write_record(args.record, dataset, args.steps, found, on_results)

    sharing.share([job(*cell) for cell in cells], folder, write, args.trainings)


def cell_name(case, seed):
    """Returns the name of a training's folder."""
    return f"{case.name}_seed_{seed}"


def read_training(directory):
    """Returns what a training that has ended is recorded with, and its settings.

    Args:
        directory: Path of its folder.

    Returns:
        Tuple of two dicts.
    """
    found = read_json(directory / "results.json")
    row = {
        **{key: found[key] for key in ("density", "epochs")},
        **{key: value for key, value in found.items() if key.startswith("test_")},
        **_validated(found["history"]),
        **_kernels(directory / "ticket.npz"),
    }
    return row, {key: value for key, value in found["settings"].items() if key != "seed"}


def write_record(name, dataset, steps, trainings, on_results=None):
    """Records all trainings that have ended, whichever process made them.

    Args:
        name: String, the file of the results.
        dataset: String.
        steps: Integer, of a case of length 1.
        trainings: Dict of pairs of a case and a seed to what `read_training` returned.
        on_results: As in `run_benchmark`. Defaults to `None`.
    """
    rows = [
        {**dataclasses.asdict(case), "seed": seed, **row}
        for (case, seed), (row, _) in trainings.items()
    ]
    settings = {case.name: settings for (case, _), (_, settings) in trainings.items()}
    summary = summarize(rows)
    results = {"summary": summary, "differences": differences(rows), "rows": rows}
    record.write(name, {"dataset": dataset, "steps": steps, "cases": settings}, results)
    if on_results:
        on_results(summary, record.RESULTS / f"{name}.png")


FIELDS = tuple(field.name for field in dataclasses.fields(Case))


def summarize(rows):
    """Returns mean and standard deviation over seeds of every case.

    Args:
        rows: List of dicts with `method`, `sparsity`, `length`, `seed` and test results.

    Returns:
        List of dicts of the fields of `Case`, `seeds`, and for every entry that begins
        with `test_` a dict of `mean` and `std`, `None` for a single seed.
    """
    cases = {}
    for row in rows:
        cases.setdefault(tuple(row.get(name) for name in FIELDS), []).append(row)
    return [
        {
            **dict(zip(FIELDS, case, strict=True)),
            "seeds": len(found),
            **{key: _mean_and_std(found, key) for key in found[0] if key.startswith("test_")},
        }
        for case, found in cases.items()
    ]


def differences(rows, pairs=PAIRS):
    """Returns by how much each method beats the next at the same sparsity, seed by seed.

    Args:
        rows: List of dicts as in `summarize`.
        pairs: Tuple of pairs of methods, the better one first. Defaults to `PAIRS`.

    Returns:
        List of dicts of `better` and `worse`, names of cases; `seeds`; `mean`, of the
        differences of test accuracies with the same seed, `None` without one; and
        `standard_error`, that of the mean, `None` for a single seed.
    """
    accuracies = {}
    for row in rows:
        case = Case(*(row.get(name) for name in FIELDS))
        accuracies.setdefault(case, {})[row["seed"]] = row["test_accuracy"]
    return [
        _difference(better, worse, accuracies)
        for names in pairs
        for better, worse in itertools.product(accuracies, repeat=2)
        if (better.method, worse.method) == names and _alike(better, worse)
    ]


def _alike(one, other):
    """Returns whether two cases have the same budget. Methods have distributions of their own."""
    names = ("sparsity", "length", "optimizer", "rescale")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _difference(better, worse, accuracies):
    first, second = accuracies[better], accuracies[worse]
    pairs = [first[seed] - second[seed] for seed in first if seed in second]
    error = statistics.stdev(pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else None
    mean = statistics.mean(pairs) if pairs else None
    names = {"better": better.name, "worse": worse.name}
    return {**names, "seeds": len(pairs), "mean": mean, "standard_error": error}


def _validated(history):
    """Returns the final accuracy on held-out examples, for a search also that of each level."""
    if isinstance(history, dict):
        return {"validation_accuracy": history["val_accuracy"][-1]} if history else {}
    levels = [
        {"density": level["density"], "validation_accuracy": level["logs"]["val_accuracy"][-1]}
        for level in history
    ]
    return {"validation_accuracy": levels[-1]["validation_accuracy"], "levels": levels}


def _kernels(path):
    """Returns, of every kernel of a ticket, how many weights it has and how many are kept."""
    if not path.exists():
        return {}
    masks = Ticket.load(path).masks
    return {"kernels": {name: [mask.size, int(mask.sum())] for name, mask in masks.items()}}


def _mean_and_std(rows, key):
    values = [row[key] for row in rows]
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "std": std}


def _parse(name, steps, seeds):
    parser = argparse.ArgumentParser()
    sharing.add_arguments(parser, name)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--steps", type=int, default=steps, help="of every training")
    return parser.parse_args()
