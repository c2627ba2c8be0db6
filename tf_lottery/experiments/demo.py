"""The demonstration: compares tickets with other sparse networks, and exports them."""

import contextlib
import dataclasses
import pathlib
import statistics

import keras

from tf_lottery.analysis.plots import plot_lottery
from tf_lottery.experiments.lottery import LotterySettings, run_lottery, run_rigl
from tf_lottery.experiments.run_folder import (
    locked_run,
    read_results,
    remove_files,
    write_json,
)
from tf_lottery.export import export_tflite
from tf_lottery.printable import plain_table

EXPORTED_DENSITIES = (0.21, 0.1, 0.05)
SPARSE_BELOW = 0.2
KIND = "demo"
FILES = (
    "replicate_*/evaluations.json",
    "replicate_*/reinitialized_*.json",
    "replicate_*/rigl_*.json",
    "replicate_*/search.npz",
    "replicate_*/settings.json",
    "replicate_*/ticket_*.npz",
    "replicate_*/trained_*.keras",
    "dense.tflite",
    "lottery.png",
    "results.json",
    "settings.json",
    "ticket_*.tflite",
)

# The steps are small: compiling them with XLA would take longer than it saves.
_SHORT = LotterySettings(levels=14, epochs_per_level=1, jit_compile=False)
SETTINGS = {
    "digits": dataclasses.replace(
        _SHORT, steps_per_epoch=400, learning_rate=3e-3, frequency=20, steps_per_execution=20
    ),
    "mnist": dataclasses.replace(_SHORT, steps_per_epoch=3000),
    "cifar10": dataclasses.replace(_SHORT, steps_per_epoch=3000),
}


@dataclasses.dataclass(frozen=True)
class DemoResult:
    """What `run_demo` found.

    Printing it with `rich` shows a table; `to_dict()` gives plain numbers.

    Args:
        dataset: String.
        num_test_examples: Integer, the number of examples for the accuracies.
        rows: List of dicts as `run_lottery` and `run_rigl` return them, with the number of the
            `replicate`.
        exports: List of dicts, the reports of `export_tflite` with the `level`.
    """

    dataset: str
    num_test_examples: int
    rows: list
    exports: list

    @property
    def levels(self):
        """List of the levels, 0 being the dense network."""
        return sorted({row["level"] for row in self.rows})

    def mean(self, kind, level, key):
        """Returns the mean over replicates, or `None` if there was no such training.

        Args:
            kind: `"ticket"`, `"reinitialized"` or `"rigl"`.
            level: Integer.
            key: String, the entry of the rows.
        """
        rows = [row for row in self.rows if (row["kind"], row["level"]) == (kind, level)]
        return statistics.mean(row[key] for row in rows) if rows else None

    def ratio(self, level):
        """Returns the bytes of a level's file as a fraction of the dense network's."""
        num_bytes = {export["level"]: export["num_bytes"] for export in self.exports}
        return num_bytes[level] / num_bytes[0] if level in num_bytes else None

    def to_dict(self):
        """Returns the result as a dict of plain values, fit for JSON."""
        return dataclasses.asdict(self)

    def __rich__(self):
        title = f"LeNet-300-100 on {self.dataset}: tickets and other sparse networks"
        # No space on the left, so that the table fits a terminal of 80 columns.
        table = plain_table(title=title, title_justify="left", padding=(0, 1, 0, 0))
        for heading in ("Level", "Density", *_COLUMNS, ".tflite\nbytes", "of\ndense"):
            table.add_column(heading, justify="right")
        sizes = {export["level"]: f"{export['num_bytes']:,}" for export in self.exports}
        for level in self.levels:
            cells = [
                _text(form, self.mean(kind, level, key)) for kind, key, form in _COLUMNS.values()
            ]
            density = f"{self.mean('ticket', level, 'density'):.1%}"
            name = str(level) if level else "dense"
            ratio = _text("{:.2f}", self.ratio(level))
            table.add_row(name, density, *cells, sizes.get(level, ""), ratio)
        replicates = len({row["replicate"] for row in self.rows})
        table.caption = (
            f"Means of {replicates} replicate(s). Acc.: accuracy on {self.num_test_examples:,} "
            "test images after training. Step: where the validation loss was lowest. Reinit.: the "
            "ticket's mask with new random weights. RigL: equally sparse, trained once."
        )
        table.caption_justify = "left"
        return table

    def conclusions(self):
        """Returns sentences that summarize the results."""
        last = self.levels[-1]
        accuracy = [self.mean("ticket", level, "test_accuracy") for level in (0, last)]
        sentences = [
            f"Tickets of level {last} keep {self.mean('ticket', last, 'density'):.1%} of the "
            f"weights and reach {accuracy[1]:.1%}; the dense network reaches {accuracy[0]:.1%}."
        ]
        sparse = [
            level
            for level in self.levels
            if self.mean("ticket", level, "density") < SPARSE_BELOW
            and self.mean("reinitialized", level, "density")
        ]
        if sparse:
            sentences.append(self._comparison(sparse))
        if self.mean("rigl", last, "test_accuracy") is not None:
            sentences.append(self._rigl_comparison(last))
        sentences.append(
            f"The file of the sparsest one has {self.ratio(last):.0%} of the dense one's bytes; "
            "it runs faster only where the device's kernels use the zeros."
        )
        return sentences

    def _comparison(self, levels):
        """Says how tickets and controls differ over some levels."""
        kinds = ("ticket", "reinitialized")
        accuracy, step = (
            [statistics.mean(self.mean(kind, level, key) for level in levels) for kind in kinds]
            for key in ("test_accuracy", "iteration")
        )
        wins = sum(
            self.mean("ticket", level, "test_accuracy")
            > self.mean("reinitialized", level, "test_accuracy")
            for level in levels
        )
        text = (
            f"Below {SPARSE_BELOW:.0%} density tickets reach {accuracy[0]:.1%} on average, the "
            f"same masks with new random weights {accuracy[1]:.1%}; their validation loss is "
            f"lowest at step {step[0]:,.0f} and {step[1]:,.0f}. The ticket is better at {wins} of "
            f"{len(levels)} levels."
        )
        return text + (
            " So the initial weights matter, not the mask alone: that is the lottery ticket."
            if accuracy[0] > accuracy[1]
            else " Here the initial weights made no difference."
        )

    def _rigl_comparison(self, level):
        """Says how accurate RigL is at the density of a ticket, and what each cost."""
        accuracy = self.mean("rigl", level, "test_accuracy")
        points = 100 * (accuracy - self.mean("ticket", level, "test_accuracy"))
        difference = (
            "as accurate as the ticket"
            if abs(points) < 0.5
            else f"{abs(points):.1f} points {'above' if points > 0 else 'below'} the ticket"
        )
        return (
            f"RigL, which moves its connections while it trains, reaches {accuracy:.1%} with as "
            f"few weights, {difference}. It took one training, sparse from the first step to the "
            f"last; the ticket took {level + 1} of that length, the first one dense."
        )


_COLUMNS = {
    "Acc.\nticket": ("ticket", "test_accuracy", "{:.1%}"),
    "Acc.\nreinit.": ("reinitialized", "test_accuracy", "{:.1%}"),
    "Acc.\nRigL": ("rigl", "test_accuracy", "{:.1%}"),
    "Step\nticket": ("ticket", "iteration", "{:,.0f}"),
    "Step\nreinit.": ("reinitialized", "iteration", "{:,.0f}"),
}


def run_demo(data, settings, directory, seed=0, replicates=3, on_row=None):
    """Runs the lottery ticket experiment and RigL, and exports networks of a few densities.

    Args:
        data: `Data` of images.
        settings: `LotterySettings`, for example of `SETTINGS`.
        directory: Folder for what `run_lottery` writes (`replicate_0`, `replicate_1`, ...),
            `lottery.png`, the `.tflite` files of the first replicate, and `results.json`.
        seed: Integer. Defaults to `0`.
        replicates: Integer, how often to run the experiment, each time with other seeds.
            Defaults to `3`.
        on_row: Function that is called with every row of `run_lottery` and `run_rigl` when
            its training ends, and with a row of `kind="export"` before a file is exported.
            Defaults to `None`.

    Returns:
        A `DemoResult`.

    Raises:
        ValueError: If `directory` holds a run with other arguments.
        OSError: If `directory` cannot be written.
        RuntimeError: If the backend is not TensorFlow.

    Example:

    >>> from tf_lottery.experiments.data import load
    >>> settings = LotterySettings(
    ...     levels=1, epochs_per_level=1, steps_per_epoch=50, frequency=50, jit_compile=False
    ... )
    >>> result = run_demo(load("digits"), settings, "runs/demo", replicates=1)
    >>> result.levels
    [0, 1]
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "The demonstration exports TFLite files, for which Keras has to run on TensorFlow: "
            "set KERAS_BACKEND=tensorflow. "
            f"Received: keras.backend.backend()={keras.backend.backend()!r}"
        )
    directory = pathlib.Path(directory)
    arguments = {"seed": seed, "replicates": replicates, **dataclasses.asdict(settings)}
    with locked_run(directory, KIND, {**data.settings, **arguments}, FILES):
        return _finished(directory) or _run(data, settings, directory, arguments, on_row)


def _finished(directory):
    """Returns the `DemoResult` of a finished run whose files are all there, or `None`."""
    fields = {"dataset": str, "num_test_examples": int, "rows": list, "exports": list}
    results = read_results(directory, fields)
    if results is None or not all((directory / e["path"]).exists() for e in results["exports"]):
        return None
    return DemoResult(**{name: results[name] for name in fields})


def _run(data, settings, directory, arguments, on_row):
    seed, replicates = arguments["seed"], arguments["replicates"]
    on_row = on_row or (lambda row: None)
    rows = []
    for replicate in range(replicates):
        found = _replicate(
            data,
            settings,
            directory / f"replicate_{replicate}",
            seed * replicates + replicate,
            on_row=lambda row, replicate=replicate: on_row({"replicate": replicate, **row}),
        )
        rows += [{"replicate": replicate, **row} for row in found]
    exports = []
    for row in _exported(rows):
        on_row({**row, "kind": "export"})
        exports.append(_export(row["level"], directory, data.test[0]))
    result = DemoResult(data.name, len(data.test[1]), rows, exports)
    # Without matplotlib there is no picture.
    with contextlib.suppress(ImportError):
        plot_lottery(rows, directory / "lottery.png", title=f"LeNet-300-100 on {data.name}")
    write_json(directory / "results.json", {"settings": arguments, **result.to_dict()})
    return result


def remove_demo(directory):
    """Deletes the files that `run_demo` has written into a folder, and no others.

    Args:
        directory: The folder.
    """
    remove_files(directory, KIND, FILES)


def _replicate(data, settings, directory, seed, on_row):
    """Searches tickets and trains RigL at the density of the last one."""
    rows = run_lottery(data, settings, directory, seed, on_row=on_row)
    last = [row for row in rows if row["kind"] == "ticket"][-1]
    return [*rows, run_rigl(data, settings, directory, last, seed, on_row)]


def _text(form, value):
    return "" if value is None else form.format(value)


def _exported(rows):
    """Returns the rows of the dense network and of the tickets nearest to some densities."""
    tickets = [row for row in rows if (row["kind"], row["replicate"]) == ("ticket", 0)]
    levels = {0, tickets[-1]["level"]}
    for density in EXPORTED_DENSITIES:
        nearest = min(tickets[1:], key=lambda row, d=density: abs(row["density"] - d))
        levels.add(nearest["level"])
    return [row for row in tickets if row["level"] in levels]


def _export(level, directory, images):
    trained = directory / "replicate_0" / f"trained_{level:02d}.keras"
    path = directory / (f"ticket_{level:02d}.tflite" if level else "dense.tflite")
    model = keras.saving.load_model(trained, compile=False)
    report = export_tflite(model, path, images[:8]).to_dict()
    return {"level": level, **report, "path": path.name}
