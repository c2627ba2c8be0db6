"""What is sparse in a model and what is not: the object behind `tfl.summary`."""

import dataclasses

import keras
import numpy as np

from tf_lottery.layers import Masked, find_kernels
from tf_lottery.layers.kernels import unique_paths
from tf_lottery.printable import Printable


@dataclasses.dataclass(frozen=True)
class KernelRow:
    """One kernel of a summary: its path, shape and number of non-zero weights."""

    path: str
    shape: tuple
    size: int
    nonzeros: int

    @property
    def sparsity(self):
        """The fraction of zeros."""
        return 1.0 - self.nonzeros / self.size


@dataclasses.dataclass(frozen=True)
class Summary(Printable):
    """The sparsity of a model's kernels.

    Printing it shows a table; `to_dict()` gives plain numbers.

    Args:
        name: The model's name.
        rows: List of `KernelRow`, one for every kernel that can be pruned.
        skipped: Dict of paths of other weights of rank two or more to the reason why
            they are not pruned.
        num_parameters: Integer, all weights of the model, biases and statistics included.
    """

    name: str
    rows: list
    skipped: dict
    num_parameters: int

    @property
    def size(self):
        """The number of weights in the kernels."""
        return sum(row.size for row in self.rows)

    @property
    def nonzeros(self):
        """The number of kept weights in the kernels."""
        return sum(row.nonzeros for row in self.rows)

    @property
    def sparsity(self):
        """The fraction of zeros over all kernels."""
        return 1.0 - self.density

    @property
    def density(self):
        """The fraction of kept weights over all kernels."""
        return self.nonzeros / self.size if self.size else 1.0

    def to_dict(self):
        """Returns the summary as a dict of plain values, fit for JSON."""
        kernels = [{**dataclasses.asdict(r), "sparsity": r.sparsity} for r in self.rows]
        return {
            "name": self.name,
            "sparsity": self.sparsity,
            "size": self.size,
            "nonzeros": self.nonzeros,
            "num_parameters": self.num_parameters,
            "kernels": [{**kernel, "shape": list(kernel["shape"])} for kernel in kernels],
            "skipped": dict(self.skipped),
        }

    def __rich__(self):
        from rich.table import Table

        title = (
            f"{self.name}: {self.sparsity:.2%} of {self.size:,} weights pruned, "
            f"{self.num_parameters:,} parameters in all"
        )
        table = Table(title=title, title_justify="left", show_footer=bool(self.rows))
        table.add_column("Kernel", "all kernels", overflow="fold")
        table.add_column("Shape")
        table.add_column("Weights", f"{self.size:,}", justify="right")
        table.add_column("Kept", f"{self.nonzeros:,}", justify="right")
        table.add_column("Sparsity", f"{self.sparsity:.2%}", justify="right")
        for row in self.rows:
            shape = " x ".join(map(str, row.shape))
            table.add_row(
                row.path, shape, f"{row.size:,}", f"{row.nonzeros:,}", f"{row.sparsity:.2%}"
            )
        if self.skipped:
            lines = [f"{path}: {reason}" for path, reason in self.skipped.items()]
            table.caption = "Not pruned:\n" + "\n".join(lines)
            table.caption_justify = "left"
        return table


def summary(model):
    """Summarizes which kernels of a model are sparse and how much.

    Args:
        model: A `SparseModel`, counted by its masks, or any built Keras model, counted by
            the zeros in its kernels.

    Returns:
        A `Summary`.

    Raises:
        ValueError: If `model` is not a built Keras model.

    Example:

    >>> tfl.summary(tfl.sparsify(model, sparsity=0.9)).sparsity
    0.9
    """
    if not isinstance(model, keras.Layer) or not model.built:
        raise ValueError(f"Argument `model` must be a built Keras model. Received: {model!r}")
    masked = model if isinstance(model, Masked) else getattr(model, "masked", None)
    if isinstance(masked, Masked):
        layer, kernels, counted = masked.layer, masked.kernels, masked.masks
        paths, skipped = masked.paths, masked.skipped
    else:
        layer, selection = model, find_kernels(model)
        kernels = counted = selection.kernels
        paths, skipped = unique_paths(kernels), selection.skipped
    rows = [
        KernelRow(path, tuple(kernel.shape), int(np.prod(kernel.shape)), _nonzeros(variable))
        for path, kernel, variable in zip(paths, kernels, counted, strict=True)
    ]
    return Summary(layer.name, rows, dict(skipped), layer.count_params())


def _nonzeros(variable):
    return int(np.count_nonzero(keras.ops.convert_to_numpy(variable)))
