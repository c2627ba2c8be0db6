"""The report of `tfl.flops`: the cost of every kernel and of the whole model."""

import dataclasses
import math
from collections.abc import Callable

from tf_lottery.analysis import storage
from tf_lottery.analysis.flops_conventions import kernel_flops
from tf_lottery.analysis.training_flops import training_flops
from tf_lottery.printable import Printable, plain_table


@dataclasses.dataclass(frozen=True)
class KernelFlops:
    """One kernel of a FLOPs report.

    Args:
        path: String, the kernel's path.
        shape: Tuple.
        nonzeros: Number of weights that are not zero, a float if sparsities were given.
        uses: Integer, how often each weight is multiplied for one example.
        sparse: FLOPs for one example, without products with zeros.
        dense: FLOPs for one example, with all products.
    """

    path: str
    shape: tuple
    nonzeros: float
    uses: int
    sparse: float
    dense: int

    @classmethod
    def count(cls, convention, path, shape, nonzeros, uses):
        """Returns the row of a kernel, its FLOPs counted by a convention."""
        sparse = kernel_flops(convention, shape, nonzeros, uses)
        dense = kernel_flops(convention, shape, math.prod(shape), uses)
        return cls(path, shape, nonzeros, uses, sparse, dense)

    @property
    def size(self):
        """The number of weights."""
        return math.prod(self.shape)

    @property
    def sparsity(self):
        """The fraction of zeros."""
        return 1.0 - self.nonzeros / self.size


@dataclasses.dataclass(frozen=True)
class FlopsReport(Printable):
    """The cost of a model, for one example.

    Printing it shows a table; `to_dict()` gives plain numbers.

    Args:
        name: The model's name.
        convention: `"mac"`, `"mac2"` or `"micronet"`; see `tfl.flops`.
        rows: List of `KernelFlops`, in the order in which the kernels are used.
        not_counted: Dict of paths of weights to the reason why the operations with them are
            not counted, or only in part.
        num_parameters: Integer, all weights of the model, biases and statistics included.
        num_not_counted: Integer, the weights in `not_counted`. Defaults to `0`.
    """

    name: str
    convention: str
    rows: list
    not_counted: dict
    num_parameters: int
    num_not_counted: int = 0

    @property
    def sparse(self) -> int:
        """FLOPs of inference, without products with zeros."""
        return sum(row.sparse for row in self.rows)

    @property
    def dense(self) -> int:
        """FLOPs of inference, with all products."""
        return sum(row.dense for row in self.rows)

    @property
    def ratio(self) -> float:
        """FLOPs of inference as a fraction of the dense model's; see `coverage`."""
        return self.sparse / self.dense if self.dense else 1.0

    @property
    def coverage(self) -> float:
        """The fraction of the weights in `rows` and `not_counted` whose FLOPs are all counted.

        Biases of counted layers and normalization do not enter. If it is below 1, `ratio` only
        describes the counted part of the model.
        """
        counted = sum(row.size for row in self.rows if row.path not in self.not_counted)
        total = counted + self.num_not_counted
        return counted / total if total else 1.0

    @property
    def num_bytes(self) -> dict[str, int]:
        """Dict of `"dense"`, `"bitmask"` and `"csr"` to the bytes of the weights.

        It includes all weights of the model; with the convention `"micronet"`, only the kernels
        and a bias for every output. See `tf_lottery.analysis.storage`.
        """
        if self.convention == "micronet":
            num_dense = sum(row.shape[-1] for row in self.rows)
        else:
            num_dense = self.num_parameters - sum(row.size for row in self.rows)
        return storage.num_bytes([(row.shape, row.nonzeros) for row in self.rows], num_dense)

    def with_sparsities(self, sparsities: dict) -> "FlopsReport":
        """Returns the report of the same model with other sparsities.

        Args:
            sparsities: Dict of kernel paths to floats in [0, 1]; kernels that are not in it
                count as dense.

        Returns:
            A `FlopsReport`.

        Raises:
            ValueError: If a path is unknown or a sparsity outside its range.

        Example:

        >>> report = tfl.flops(model)
        >>> shapes = {row.path: row.shape for row in report.rows}
        >>> round(report.with_sparsities(tfl.sparsity.erdos_renyi_kernel(shapes, 0.5)).ratio, 3)
        0.5
        """
        known = [row.path for row in self.rows]
        for path, sparsity in sparsities.items():
            if path not in known:
                raise ValueError(
                    f"Argument `sparsities` must have paths of counted kernels, {known}. "
                    f"Received: {path!r}"
                )
            if not 0 <= sparsity <= 1:
                raise ValueError(
                    f"Argument `sparsities[{path!r}]` must be in [0, 1]. Received: {sparsity!r}"
                )
        rows = []
        for row in self.rows:
            # With a sparsity of zero the count stays an integer.
            sparsity = sparsities.get(row.path, 0)
            nonzeros = row.size * (1 - sparsity) if sparsity else row.size
            count = row.path, row.shape, nonzeros, row.uses
            rows.append(KernelFlops.count(self.convention, *count))
        return dataclasses.replace(self, rows=rows)

    def training(
        self,
        method: str,
        frequency: int = 100,
        *,
        schedule: Callable | None = None,
        total_steps: int | None = None,
        first_input_gradient: bool = True,
    ) -> float:
        """Returns the FLOPs of training on one example, averaged over training.

        `tf_lottery.analysis.training_flops` has the formulas.

        Args:
            method: `"dense"`, `"static"`, `"snip"`, `"set"`, `"snfs"`, `"rigl"` or
                `"pruning"`.
            frequency: Integer > 0. Steps between two updates of the masks, for `"rigl"` and
                `"pruning"`. Defaults to `100`.
            schedule: Function of the step to the sparsity, for `"pruning"`, such as
                `tfl.sparsity.Polynomial`. Defaults to `None`.
            total_steps: Integer > 0, the steps of training, for `"pruning"`. Defaults to
                `None`.
            first_input_gradient: Boolean, whether the gradient of the first kernel's input
                is counted, although training does not need it. Defaults to `True`.

        Returns:
            Float.

        Raises:
            ValueError: If an argument is outside its range, or one that the method needs is
                missing.

        Example:

        >>> report = tfl.flops(sparse)
        >>> round(report.training("rigl", frequency=100) / report.training("dense"), 3)
        0.103
        """
        return training_flops(
            self.rows,
            method,
            frequency=frequency,
            schedule=schedule,
            total_steps=total_steps,
            first_input_gradient=first_input_gradient,
        )

    def to_dict(self) -> dict:
        """Returns the report as a dict of plain values, fit for JSON."""
        kernels = [{**dataclasses.asdict(r), "sparsity": r.sparsity} for r in self.rows]
        return {
            "name": self.name,
            "convention": self.convention,
            "sparse": self.sparse,
            "dense": self.dense,
            "ratio": self.ratio,
            "coverage": self.coverage,
            "num_bytes": self.num_bytes,
            "num_parameters": self.num_parameters,
            "kernels": [{**kernel, "shape": list(kernel["shape"])} for kernel in kernels],
            "not_counted": dict(self.not_counted),
        }

    def __rich__(self):
        title = f"{self.name}: FLOPs of inference for one example, convention {self.convention}"
        table = plain_table(title=title, title_justify="left", show_footer=bool(self.rows))
        table.add_column("Kernel", "all kernels", overflow="fold")
        table.add_column("Shape")
        total = 1.0 - sum(r.nonzeros for r in self.rows) / max(1, sum(r.size for r in self.rows))
        table.add_column("Sparsity", f"{total:.2%}", justify="right")
        table.add_column("Dense", f"{self.dense:,.0f}", justify="right")
        table.add_column("Sparse", f"{self.sparse:,.0f}", justify="right")
        for row in self.rows:
            shape = " x ".join(map(str, row.shape))
            costs = f"{row.dense:,.0f}", f"{row.sparse:,.0f}"
            table.add_row(row.path, shape, f"{row.sparsity:.2%}", *costs)
        lines = [storage.describe(self.num_bytes), *describe_coverage(self)]
        table.caption, table.caption_justify = "\n".join(lines), "left"
        return table


def describe_coverage(report):
    """Returns lines of text on what a report does not count, an empty list if it counts all.

    Args:
        report: A `FlopsReport`.
    """
    if not report.not_counted:
        return []
    return [
        f"These FLOPs cover only {share_of_weights(report.coverage)}.",
        "Not counted:",
        *(f"{path}: {reason}" for path, reason in report.not_counted.items()),
    ]


def share_of_weights(coverage):
    """Returns a coverage below 1 as a text.

    Args:
        coverage: Float, a `FlopsReport.coverage`, or a mean of several.

    Example:

    >>> share_of_weights(0.99999)
    '99.9% of the weights'
    """
    # Rounded down and below 100%, even if only one small layer is not counted.
    return f"{min(math.floor(1000 * coverage) / 1000, 0.999):.1%} of the weights"
