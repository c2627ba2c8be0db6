"""`tfl.summary`: which weights of a model are sparse, which are not, and what it costs."""

import dataclasses
import math
import re
import textwrap

import keras
import numpy as np

from tf_lottery import hosts
from tf_lottery.analysis import storage
from tf_lottery.analysis._flops import active_ghosts, flops
from tf_lottery.analysis.flops_report import FlopsReport, describe_coverage
from tf_lottery.layers import Masked, find_kernels
from tf_lottery.layers.weights import unique_paths
from tf_lottery.layers.wrappers_inside import masks_by_kernel, plain_weights
from tf_lottery.model import SparseModel
from tf_lottery.printable import Printable, plain_table


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
    """The sparsity of a model's kernels, and what inference and storage cost.

    Printing it shows a table; `to_dict()` gives plain numbers.

    Args:
        name: The model's name.
        rows: List of `KernelRow`, one for every kernel that can be pruned.
        skipped: Dict of paths of other weights of rank two or more to the reason why
            they are not pruned.
        num_parameters: Integer, all weights of the model, biases, statistics and ghost skips
            that are in effect included.
        flops: `FlopsReport` with the convention `"mac2"`, or `None` if FLOPs cannot be
            counted. Defaults to `None`.
        no_flops: String, the reason why FLOPs cannot be counted. Defaults to `""`.
    """

    name: str
    rows: list
    skipped: dict
    num_parameters: int
    flops: FlopsReport | None = None
    no_flops: str = ""

    @property
    def size(self) -> int:
        """The number of weights in the kernels."""
        return sum(row.size for row in self.rows)

    @property
    def nonzeros(self) -> int:
        """The number of kept weights in the kernels."""
        return sum(row.nonzeros for row in self.rows)

    @property
    def sparsity(self) -> float:
        """The fraction of zeros over all kernels."""
        return 1.0 - self.density

    @property
    def density(self) -> float:
        """The fraction of kept weights over all kernels."""
        return self.nonzeros / self.size if self.size else 1.0

    @property
    def num_bytes(self) -> dict[str, int]:
        """Dict of formats to the bytes of all weights; see `tf_lottery.analysis.storage`."""
        kernels = [(row.shape, row.nonzeros) for row in self.rows]
        return storage.num_bytes(kernels, self.num_parameters - self.size)

    def to_dict(self) -> dict:
        """Returns the summary as a dict of plain values, fit for JSON."""
        kernels = [{**dataclasses.asdict(r), "sparsity": r.sparsity} for r in self.rows]
        return {
            "name": self.name,
            "sparsity": self.sparsity,
            "size": self.size,
            "nonzeros": self.nonzeros,
            "num_parameters": self.num_parameters,
            "num_bytes": self.num_bytes,
            "flops": self._flops_dict(),
            "no_flops": self.no_flops,
            "kernels": [{**kernel, "shape": list(kernel["shape"])} for kernel in kernels],
            "skipped": dict(self.skipped),
        }

    def __rich__(self):
        title = (
            f"{self.name}: {self.sparsity:.2%} of {self.size:,} weights pruned, "
            f"{self.num_parameters:,} parameters in all"
        )
        table = plain_table(title=title, title_justify="left", show_footer=bool(self.rows))
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
        table.caption, table.caption_justify = "\n".join(self._lines()), "left"
        return table

    def _flops_dict(self):
        if self.flops is None:
            return None
        keys = ("convention", "sparse", "dense", "ratio", "coverage", "not_counted")
        return {key: getattr(self.flops, key) for key in keys}

    def _lines(self):
        """Returns the lines below the table."""
        lines = [storage.describe(self.num_bytes)]
        if self.flops is None:
            lines.append(f"FLOPs not counted: {self.no_flops}")
        else:
            lines.append(
                f"FLOPs of inference: {self.flops.sparse:,} of {self.flops.dense:,} dense, "
                f"{self.flops.ratio:.2%}"
            )
            lines += describe_coverage(self.flops)
        if self.skipped:
            lines += ["Not pruned:", *(f"{path}: {why}" for path, why in self.skipped.items())]
        return lines


def summary(model: keras.Layer, input_shape: tuple | list | dict | None = None) -> Summary:
    """Summarizes which kernels of a model are sparse and how much, and what the model costs.

    Args:
        model: A `SparseModel`, whose zeros are those of its masks, or any built Keras model,
            whose zeros are those in its kernels and of the masks of sparse models in it.
        input_shape: Tuple, the shape of one example without the batch axis, for the FLOPs of
            models that leave it open; see `tfl.flops`. Defaults to `None`.

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
    if isinstance(model, SparseModel):
        layer, kernels, skipped = model.model, list(model.kernels.values()), model.skipped
        paths, counted = list(model.kernels), list(model.get_masks().values())
    elif isinstance(model, Masked):
        layer, kernels, counted = model.layer, model.kernels, model.get_masks()
        paths, skipped = model.keys, model.skipped
    else:
        layer, (kernels, counted, skipped) = model, _kernels_of(model)
        paths = unique_paths(kernels)
    rows = [
        KernelRow(path, tuple(kernel.shape), int(np.prod(kernel.shape)), _nonzeros(variable))
        for path, kernel, variable in zip(paths, kernels, counted, strict=True)
    ]
    skipped = dict(skipped)
    size = sum(math.prod(weight.shape) for weight in plain_weights(layer))
    for _, branch in active_ghosts(model):
        skipped[f"{branch.name}/kernel"] = "a ghost skip, which is dense"
        size += branch.count_params()
    return Summary(layer.name, rows, skipped, size, *_flops(model, input_shape))


def _kernels_of(model):
    """Returns the kernels of a model that may contain sparse ones, and why others are left out.

    Returns:
        The list of the kernels; a list of their masks, or of the kernels themselves if they have
        none; and a dict of the paths of other weights to the reason.
    """
    selection, masks = find_kernels(model, frozen=True), masks_by_kernel(model)
    chosen = {*masks, *map(id, selection.kernels)}
    weights = plain_weights(model)
    kernels = [weight for weight in weights if id(weight) in chosen]
    others = {weight.path for weight in weights if id(weight) not in chosen}
    skipped = {path: why for path, why in selection.skipped.items() if path in others}
    return kernels, [masks.get(id(kernel), kernel) for kernel in kernels], skipped


def _flops(model, input_shape):
    """Returns the FLOPs report and `""`, or `None` and the reason why there is none."""
    try:
        return flops(model, input_shape=input_shape), ""
    except Exception as error:  # A model's own code may fail in any way when it is traced.
        # Keras prints errors in bold (escape codes) and appends the arguments of the call.
        message = re.sub(r"\x1b\[\d+m", "", str(error)) or type(error).__name__
        return None, textwrap.shorten(message, 250)


def _nonzeros(variable):
    return int(np.count_nonzero(hosts.to_numpy(variable)))
