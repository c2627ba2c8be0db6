"""The result of `tfl.sensitivity`: what pruning each kernel alone does."""

import dataclasses
import math
import os

from tf_lottery.analysis import storage
from tf_lottery.checks import choice, number_above
from tf_lottery.printable import Printable, plain_table
from tf_lottery.sparsity.allocation import Curve, allocate

MEASURES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "outputs": "squared change of the outputs",
    "layers": "squared change of the layer's outputs",
}
BUDGETS = ("parameters", "flops", "bytes")


@dataclasses.dataclass(frozen=True)
class KernelSensitivity:
    """One kernel, or channel group, of a `Sensitivity`.

    Args:
        name: String, the path of the kernel or the name of the group.
        size: Integer, its number of weights.
        values: List of floats, the measured value at each sparsity.
        flops: Float, the FLOPs of the dense kernel, or `None` if they are not known.
    """

    name: str
    size: int
    values: list
    flops: float | None = None


@dataclasses.dataclass(frozen=True)
class Sensitivity(Printable):
    """What pruning each kernel alone does to a model. Printing it shows a table.

    Args:
        measure: String, what was measured: `"loss"`, `"accuracy"`, `"outputs"` or `"layers"`.
        sparsities: List of floats.
        rows: List of `KernelSensitivity`.
        unpruned: Float, the value without pruning: that of the model, or 0 for changes.
        is_of_groups: Whether the rows are channel groups, which `allocate` does not take.
            Defaults to `False`.
        skipped: Dict of the paths of kernels that could not be measured to the reason, for
            `"layers"`. Defaults to `{}`.
    """

    measure: str
    sparsities: list
    rows: list
    unpruned: float
    is_of_groups: bool = False
    skipped: dict = dataclasses.field(default_factory=dict)

    def damages(self, row: KernelSensitivity) -> list[float]:
        """Returns by how much pruning worsens the value, at each sparsity.

        Args:
            row: One of `rows`.
        """
        sign = -1.0 if self.measure == "accuracy" else 1.0
        return [sign * (value - self.unpruned) for value in row.values]

    def allocate(self, budget: dict[str, float]) -> dict[str, float]:
        """Returns the sparsity of every kernel that meets a budget at the least predicted damage.

        The damages of kernels are taken to add up, and those between the measured sparsities to
        lie on a line; see `tf_lottery.sparsity.allocation`. From the first sparsity on at which
        the value is not finite, a kernel is not pruned. Those that are `skipped` get 0, and do not
        count in the budget.

        Args:
            budget: Dict of one name to what may be left: `{"parameters": 0.1}` for a tenth of
                the weights of the kernels; `{"flops": 0.1}` for a tenth of their FLOPs;
                `{"bytes": 20_000}` for 20,000 bytes of kernels in 32-bit floats with a bit for
                every position, as in `tf_lottery.analysis.storage`.

        Returns:
            Dict of kernel paths to sparsities, for `tfl.prune`, or `distribution` of
            `tfl.sparsify`.

        Raises:
            ValueError: If `budget` is none of these, or needs more zeros than the highest
                sparsities.

        Example:

        >>> result = tfl.sensitivity(sparse, x, sparsities=(0.95, 0.99), verbose=0)
        >>> masks = tfl.prune(sparse, result.allocate({"parameters": 0.05}))
        >>> round(sparse.sparsity, 2)
        0.95
        """
        kind, left = _checked(budget, self.is_of_groups)
        curves = {row.name: self._curve(row, kind) for row in self.rows}
        if kind != "bytes":
            left *= sum(curve.costs[0] for curve in curves.values())
        found = allocate(curves, left)
        if kind == "bytes":
            # Whole weights, since half of one would be above the budget.
            highest = self.sparsities[-1]
            for row in self.rows:
                share = math.ceil(found[row.name] * row.size - 1e-6) / row.size
                found[row.name] = min(share, highest)
        return {**found, **dict.fromkeys(self.skipped, 0.0)}

    def _curve(self, row, kind):
        sparsities = [0.0, *self.sparsities]
        if kind == "bytes":
            nonzeros = [(1.0 - s) * row.size for s in sparsities]
            costs = [storage.num_bytes([((row.size,), n)])["bitmask"] for n in nonzeros]
            overhead = row.size / 8
        else:
            total = row.size if kind == "parameters" else row.flops
            if total is None:
                raise ValueError(
                    "Argument `budget` must not be of FLOPs for a kernel whose FLOPs are not "
                    f"counted. Received: budget of 'flops', kernel {row.name!r}"
                )
            costs, overhead = [(1.0 - s) * total for s in sparsities], 0.0
        return Curve(sparsities, [0.0, *self.damages(row)], costs, overhead)

    def plot(self, path: str | os.PathLike) -> None:
        """Draws a heat map, kernels against sparsities.

        Args:
            path: Path of the image file, for example a `.png`.

        Raises:
            OSError: If the file cannot be written.
        """
        from tf_lottery.analysis.plots import plot_sensitivity

        plot_sensitivity(self, path)

    def to_dict(self) -> dict:
        """Returns the result as a dict of plain values, fit for JSON."""
        return dataclasses.asdict(self)

    def __rich__(self):
        what = MEASURES[self.measure]
        table = plain_table(
            title=f"The {what} when one kernel is pruned; {self.unpruned:.4g} without pruning",
            title_justify="left",
        )
        table.add_column("Channel group" if self.is_of_groups else "Kernel", overflow="fold")
        table.add_column("Weights", justify="right")
        for sparsity in self.sparsities:
            table.add_column(f"{100 * sparsity:g}%", justify="right")
        for row in self.rows:
            table.add_row(row.name, f"{row.size:,}", *(f"{value:.4g}" for value in row.values))
        if self.skipped:
            lines = ("Not measured:", *(f"{path}: {why}" for path, why in self.skipped.items()))
            table.caption, table.caption_justify = "\n".join(lines), "left"
        return table


def _checked(budget, is_of_groups):
    """Returns the kind of a budget and its number, or raises a `ValueError`."""
    if is_of_groups:
        raise ValueError(
            "Budgets of channels depend on the groups before and after: use "
            "`tfl.prune(model, budget={'flops': 0.5})`. Received: sensitivities of channel groups"
        )
    if not isinstance(budget, dict) or len(budget) != 1:
        raise ValueError(
            f"Argument `budget` must be a dict with one of {BUDGETS}. Received: budget={budget!r}"
        )
    ((kind, value),) = budget.items()
    choice("budget", kind, BUDGETS)
    number_above(f"budget[{kind!r}]", value, 0)
    if value > (math.inf if kind == "bytes" else 1):
        raise ValueError(
            f"Argument `budget` must be a fraction that is left of {kind}. Received: {budget}"
        )
    return kind, value
