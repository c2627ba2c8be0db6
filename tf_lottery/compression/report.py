"""The result of `tfl.compress`."""

import dataclasses
import os
import pathlib
import shutil

from tf_lottery import files
from tf_lottery.compression.files import CompressedFile
from tf_lottery.compression.limits import Limits, least_accuracy
from tf_lottery.printable import Printable, plain_table


@dataclasses.dataclass(frozen=True)
class Compression(Printable):
    """The files that `tfl.compress` has made, and which of them to take.

    Printing it shows a table of the front and the recommendation; `to_dict()` gives plain values.

    Args:
        directory: String, the folder of the files, and of the networks as `.keras` files.
        budget: Dict, as passed to `tfl.compress`.
        max_drop: Float.
        dense_accuracy: Float, that of the model on the validation data.
        standard_error: Float, by how much chance moves an accuracy on so many examples.
        files: List of `CompressedFile`, all that were made.
        accuracies: Dict of the names of networks to their accuracies in Keras.
        problems: Dict of the names of networks and files that were not made to the reason.
        stopped: String, why it ended early, or `""`.
    """

    directory: str
    budget: dict
    max_drop: float
    dense_accuracy: float
    standard_error: float
    files: list
    accuracies: dict
    problems: dict
    stopped: str = ""

    @property
    def front(self) -> list[CompressedFile]:
        """The files to choose from: no other one costs less and is as accurate, cheapest first.

        Cost is what the budget is of. If it is of several things, a file has to cost less in all.
        """

        def is_beaten(file):
            return any(_beats(other, file, self._costs) for other in self.files)

        return sorted((f for f in self.files if not is_beaten(f)), key=self._costs)

    @property
    def fitting(self) -> list[CompressedFile]:
        """The files that meet the budget and are accurate enough."""
        limits = Limits(self.budget)
        return [f for f in self.files if limits.excess(f) <= 1 and self.is_accurate(f)]

    @property
    def best(self) -> CompressedFile | None:
        """The recommended file, `None` if none meets what was asked.

        It is the cheapest one whose accuracy is within a standard error of the most accurate one,
        since smaller differences are chance.
        """
        fitting = self.fitting
        if not fitting:
            return None
        highest = max(file.accuracy for file in fitting)
        alike = [f for f in fitting if f.accuracy >= highest - self.standard_error]
        return min(alike, key=lambda file: (*self._costs(file), -file.accuracy))

    @property
    def path(self) -> str | None:
        """The path of the recommended file, or `None`."""
        return None if self.best is None else os.path.join(self.directory, self.best.name)

    @property
    def recommendation(self) -> str:
        """A sentence that says which file to take, and why."""
        best, limits = self.best, Limits(self.budget)
        if best is not None:
            count = len(self.fitting)
            why = (
                "the only file that meets what was asked"
                if count == 1
                else f"of {count} files that meet what was asked, the cheapest within a standard "
                f"error ({100 * self.standard_error:.2f} points) of the most accurate"
            )
            return f"Take {best.name}: {limits.describe(best)}, {self._loss(best)}; {why}."
        text = (
            f"No file has {_words(self.budget)} and loses at most {100 * self.max_drop:g} points."
        )
        accurate = [file for file in self.files if self.is_accurate(file)]
        if accurate:
            nearest = min(accurate, key=limits.excess)
            over = limits.excess(nearest) - 1
            text += (
                f" Nearest to the budget is {nearest.name}: {limits.describe(nearest)}, "
                f"{over:.0%} over, {self._loss(nearest)}."
            )
        small = [file for file in self.files if limits.excess(file) <= 1]
        if small:
            nearest = max(small, key=lambda file: file.accuracy)
            text += f" Within the budget, {nearest.name} loses least: {self._loss(nearest)}."
        return text

    def is_accurate(self, file: CompressedFile) -> bool:
        """Returns whether a file loses at most `max_drop`.

        Args:
            file: One of `files`.
        """
        return file.accuracy >= least_accuracy(self.dense_accuracy, self.max_drop)

    def save(self, path: str | os.PathLike) -> None:
        """Copies the recommended file.

        Args:
            path: Path of the new file. An existing one is replaced, or kept if copying fails.

        Raises:
            ValueError: If no file meets what was asked.
            OSError: If it cannot be written.
        """
        if self.path is None:
            raise ValueError(self.recommendation)
        with files.atomic_path(path) as temporary:
            shutil.copyfile(self.path, temporary)

    def plot(self, path: str | os.PathLike) -> None:
        """Draws the accuracy against bytes, and against milliseconds.

        Args:
            path: Path of the image file, for example a `.png`.

        Raises:
            OSError: If the file cannot be written.
        """
        from tf_lottery.compression.plot import plot_compression

        plot_compression(self, path)

    def to_dict(self) -> dict:
        """Returns the result as a dict of plain values, fit for JSON."""
        best = None if self.best is None else self.best.name
        more = {"front": [file.name for file in self.front], "best": best, "path": self.path}
        return {**dataclasses.asdict(self), **more, "recommendation": self.recommendation}

    def __rich__(self):
        from rich.console import Group
        from rich.text import Text

        lines = [self._problem_line()] if self.problems else []
        return Group(self._table(), *map(Text, [*lines, self.recommendation]))

    def _problem_line(self):
        (name, reason), *others = self.problems.items()
        more = f" and {len(others)} more (`problems`)" if others else ""
        return f"Not made: {name}{more}: {' '.join(reason.split())[:300]}"

    def _table(self):
        title = (
            f"{len(self.files)} files in {self.directory}; those that no other one beats\n"
            f"Accuracy on validation data: {self.dense_accuracy:.2%} before, "
            f"+-{100 * self.standard_error:.2f} points by chance"
        )
        table = plain_table(title=title, title_justify="left")
        table.add_column("File", overflow="fold")
        for heading in ("Accuracy", "Bytes", "Milliseconds", "FLOPs", "Fits"):
            table.add_column(heading, justify="right")
        fitting = self.fitting
        for file in self.front:
            count = "" if file.flops is None else f"{file.flops:,.0f}"
            numbers = (f"{file.accuracy:.2%}", f"{file.num_bytes:,}", f"{file.latency_ms:.4f}")
            fits = "best" if file == self.best else "yes" if file in fitting else "no"
            table.add_row(pathlib.Path(file.name).stem, *numbers, count, fits)
        if self.stopped:
            table.caption, table.caption_justify = f"Ended early: {self.stopped}", "left"
        return table

    def _costs(self, file):
        values = {"bytes": file.num_bytes, "milliseconds": file.latency_ms, "flops": file.flops}
        return tuple(values[kind] for kind in self.budget)

    def _loss(self, file):
        points = 100 * (self.dense_accuracy - file.accuracy)
        side = "below" if points >= 0 else "above"
        return f"{file.accuracy:.2%} accurate, {abs(points):.2f} points {side} the model"


def _beats(one, other, costs):
    """Returns whether a file is at least as good as another one, and better in something."""
    pairs = list(zip(costs(one), costs(other), strict=True))
    is_as_good = all(a <= b for a, b in pairs) and one.accuracy >= other.accuracy
    return is_as_good and (any(a < b for a, b in pairs) or one.accuracy > other.accuracy)


def _words(budget):
    return " and ".join(f"at most {limit:,} {kind}" for kind, limit in budget.items())
