"""The results of a sweep as a table, a picture and files."""

import csv
import dataclasses
import os
import statistics
from typing import Any

from tf_lottery import files
from tf_lottery.experiments.sweeps.plot import plot_lines
from tf_lottery.experiments.sweeps.table import method_of, results_table, text_of_cell
from tf_lottery.printable import Printable

_MEASURES = (
    "density",
    "parameters",
    "test_accuracy",
    "test_loss",
    "test_bits_per_character",
    "steps",
    "training_flops",
    "flops_coverage",
    "file_bytes",
    "file_accuracy",
    "file_milliseconds",
)


@dataclasses.dataclass(frozen=True)
class SweepResult(Printable):
    """What `run_sweep` found.

    Printing it shows a table of means and standard deviations over seeds.

    Args:
        varied: Tuple of the names of the settings in which runs differ, without the seed.
        rows: List of dicts, one per finished run: `run`, its settings, and its results.
        failed: Dict of the names of runs that failed to their errors.

    Example:

    >>> rows = [{"method": "set", "seed": i, "test_accuracy": 0.8 + 0.1 * i} for i in range(2)]
    >>> group = SweepResult(("method",), rows, {}).summary()[0]
    >>> group["method"], round(group["test_accuracy"]["mean"], 4), group["seeds"]
    ('set', 0.85, 2)
    """

    varied: tuple[str, ...]
    rows: list[dict[str, Any]]
    failed: dict[str, str]

    def summary(self) -> list[dict[str, Any]]:
        """Returns mean and standard deviation over the seeds of equal settings.

        Returns:
            List of dicts of the settings in which runs differ; `seeds`, their number; and for
            every result a dict of `mean` and `std`, which is `None` for a single seed.
        """
        groups: dict[tuple, list] = {}
        for row in self.rows:
            groups.setdefault(tuple(str(row.get(name)) for name in self.varied), []).append(row)
        return [
            {
                **{name: rows[0].get(name) for name in self.varied},
                "seeds": len(rows),
                **{key: _mean_and_std(rows, key) for key in _MEASURES if _is_known(rows, key)},
            }
            for rows in groups.values()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Returns the result as a dict of plain values, fit for JSON."""
        return {
            "varied": list(self.varied),
            "summary": self.summary(),
            "rows": self.rows,
            "failed": self.failed,
        }

    def write_csv(self, path: str | os.PathLike) -> None:
        """Writes a line for every finished run.

        Args:
            path: The file.

        Raises:
            OSError: If it cannot be written.
        """
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with files.atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)

    def plot(self, path: str | os.PathLike) -> None:
        """Draws test accuracy against density, with a line for every other setting.

        The areas of the markers show the FLOPs of the trainings.

        Args:
            path: File of the picture, such as a `.png`.

        Raises:
            ImportError: If matplotlib is not installed.
            OSError: If the file cannot be written.
        """
        plot_lines(self._lines(), path)

    def __rich__(self):
        return results_table(self.summary(), self.varied)

    def _lines(self):
        """Returns a dict of labels to the groups that a line of the picture joins."""
        apart = ("method", "sparsity", "target_density", "export", "retrained")
        lines = {}
        for group in self.summary():
            others = [n for n in self.varied if n not in apart and group[n] is not None]
            values = [method_of(group), *(text_of_cell(group[name]) for name in others)]
            label = ", ".join(value for value in values if value)
            lines.setdefault(label or "all", []).append(group)
        return lines


def _is_known(rows, key):
    """Returns whether all rows have a result, which older runs may lack."""
    return all(row.get(key) is not None for row in rows)


def _mean_and_std(rows, key):
    values = [row[key] for row in rows]
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "std": std}
