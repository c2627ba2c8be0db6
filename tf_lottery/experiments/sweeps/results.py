"""The results of a sweep as a table, a picture and files."""

import csv
import dataclasses
import os
import statistics
from typing import Any

from tf_lottery import extras, files
from tf_lottery.printable import Printable, plain_table

_MEASURES = ("density", "parameters", "test_accuracy", "test_loss", "test_bits_per_character")


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
                **{key: _mean_and_std(rows, key) for key in _MEASURES if key in rows[0]},
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

        Args:
            path: File of the picture, such as a `.png`.

        Raises:
            ImportError: If matplotlib is not installed.
            OSError: If the file cannot be written.
        """
        extras.require("plots", "matplotlib")
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axis = figure.subplots()
        for label, groups in self._lines().items():
            groups = sorted(groups, key=lambda group: group["density"]["mean"])
            densities = [100 * group["density"]["mean"] for group in groups]
            means = [100 * group["test_accuracy"]["mean"] for group in groups]
            errors = [100 * (group["test_accuracy"]["std"] or 0) for group in groups]
            axis.errorbar(densities, means, errors, fmt="o-", capsize=3, label=label)
        axis.set_xscale("log")
        axis.invert_xaxis()
        axis.set_xlabel("Weights remaining (%)")
        axis.set_ylabel("Test accuracy (%)")
        axis.grid(alpha=0.3)
        if self.rows:
            axis.legend()
        with files.atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=120, format=os.path.splitext(path)[1][1:] or "png")

    def __rich__(self):
        columns = [n for n in self.varied if any(row.get(n) is not None for row in self.rows)]
        table = plain_table()
        for name in columns:
            table.add_column(name.replace("_", " ").capitalize(), overflow="fold")
        for name in ("Density", "Test accuracy", "Seeds"):
            table.add_column(name, justify="right")
        for group in self.summary():
            cells = ["" if group[name] is None else _cell(group[name]) for name in columns]
            measured = (_percent(group["density"]), _percent(group["test_accuracy"]))
            table.add_row(*cells, *measured, str(group["seeds"]))
        table.caption = "Mean ± standard deviation over seeds"
        table.caption_justify = "left"
        return table

    def _lines(self):
        """Returns a dict of labels to the groups that a line of the picture joins."""
        names = [n for n in self.varied if n not in ("sparsity", "target_density")]
        lines = {}
        for group in self.summary():
            values = [_cell(group[name]) for name in names if group[name] is not None]
            lines.setdefault(", ".join(values) or "all", []).append(group)
        return lines


def _mean_and_std(rows, key):
    values = [row[key] for row in rows]
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.mean(values), "std": std}


def _percent(measure):
    std = "" if measure["std"] is None else f" ± {measure['std']:.2%}"
    return f"{measure['mean']:.2%}{std}"


def _cell(value):
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else f"{value}"
