"""`tfl.repair`: refits the weights of a pruned network to the outputs of the dense one."""

import dataclasses
from typing import Any

import keras
import numpy as np

from tf_lottery import hosts
from tf_lottery.calibration.batch_statistics import BatchStatistics
from tf_lottery.calibration.inputs import input_batches
from tf_lottery.calibration.least_squares import match_variance, refit, squared_error
from tf_lottery.calibration.walk import Walk
from tf_lottery.checks import number_above
from tf_lottery.model import SparseModel, check_settled
from tf_lottery.network_weights import weights_of
from tf_lottery.printable import Printable, plain_table
from tf_lottery.snapshot import Snapshot


@dataclasses.dataclass(frozen=True)
class RepairRow:
    """One kernel of a `RepairReport`.

    Args:
        path: String, the kernel's path.
        error_before: Float, the squared error of the layer's outputs relative to those of the
            dense network, with the old weights and repaired layers before it.
        error_after: Float, the same with the new weights.
    """

    path: str
    error_before: float
    error_after: float


@dataclasses.dataclass(frozen=True)
class RepairReport(Printable):
    """What `tfl.repair` has changed. Printing it shows a table.

    Args:
        rows: List of `RepairRow`, in the order in which the layers are called.
        skipped: Dict of the paths of other kernels to the reason why they did not change.
    """

    rows: list
    skipped: dict

    def to_dict(self) -> dict:
        """Returns the report as a dict of plain values, fit for JSON."""
        return dataclasses.asdict(self)

    def __rich__(self):
        table = plain_table(title="Error of the outputs of each layer", title_justify="left")
        table.add_column("Kernel", overflow="fold")
        table.add_column("Pruned", justify="right")
        table.add_column("Repaired", justify="right")
        for row in self.rows:
            table.add_row(row.path, f"{row.error_before:.2%}", f"{row.error_after:.2%}")
        lines = []
        # Least squares alone raise no error by more than rounding; scaling the units may.
        if any(row.error_after - row.error_before > 1e-4 for row in self.rows):
            lines.append(
                "Errors rose where units were scaled to vary as in the dense network "
                "(`match_variances`)"
            )
        if self.skipped:
            lines += ["Not repaired:", *(f"{path}: {why}" for path, why in self.skipped.items())]
        if lines:
            table.caption, table.caption_justify = "\n".join(lines), "left"
        return table


def repair(
    model: SparseModel,
    x: Any,
    *,
    reference: Snapshot | keras.Model | dict,
    ridge: float = 0.01,
    match_variances: bool = True,
    batch_size: int = 32,
    batch_statistics: bool = True,
) -> RepairReport:
    """Refits the weights that pruning has left, so that the layers compute what they did before.

    It needs no labels and no training. Layer by layer, in the order of their calls, the kept
    weights and the bias of every output unit get the values that bring its outputs, before the
    activation, closest to those of the dense network: ridge least squares, with the inputs that
    the layer gets in the pruned network, whose layers before it are repaired already. Then every
    unit is scaled until its outputs vary as much as in the dense network. Least squares pull the
    outputs toward their mean, the more the less the kept weights explain, and a class whose output
    is explained badly would hardly ever be predicted (the variance collapse of arXiv:2211.08403).
    At the end the statistics of batch normalization are measured anew. The masks do not change.

    This holds for the kernels of `Dense`, `EinsumDense`, attention and convolutional layers,
    and the pointwise kernels of separable convolutions. Others, such as those of recurrent layers
    and those that several layers share, stay as they are, and the report lists them. A unit without
    any kept weight is left alone.

    At a time, the products of the inputs of one layer are in memory, and what the model computes
    from one batch, which is most of it for large images: take a small `batch_size` then. Every
    layer takes two calls of the part of the model before it.

    Args:
        model: A `SparseModel`, pruned by any method and pattern.
        x: Unlabelled inputs, some hundred or thousand examples: arrays nested as the model takes
            them, or a data set; of its batches `(x, y)`, only `x` is used.
        reference: The dense network: a `tfl.Snapshot` that was taken before pruning, which writes
            zeros into the model; or another model or a dict of paths to weights, matched as in
            `Ticket.apply`.
        ridge: Float >= 0, how strongly weights are held at their old values, in proportion to the
            mean square of the inputs. More for few examples. Defaults to `0.01`.
        match_variances: Whether to scale the units. `False` suits regression, where the squared
            error itself counts. Defaults to `True`.
        batch_size: Integer > 0, the examples in a batch if `x` is arrays. Defaults to `32`.
        batch_statistics: Whether to measure the statistics of batch normalization anew, in
            layers that are not frozen. Defaults to `True`.

    Returns:
        A `RepairReport`.

    Raises:
        ValueError: If the model has soft gates, `x` is empty or not finite, `reference` is another
            architecture or has no weight where the model is pruned, or activations are not finite.
            The model is unchanged then.

    Example:

    >>> sparse = tfl.sparsify(model)
    >>> before = tfl.Snapshot(sparse)
    >>> masks = tfl.prune(sparse, sparsity=0.8)
    >>> report = tfl.repair(sparse, x, reference=before)
    >>> [row.path for row in report.rows]
    ['net/hidden/kernel', 'net/output/kernel']
    """
    check_settled(model)
    number_above("ridge", ridge, 0, inclusive=True)
    batches = input_batches("x", x, batch_size)
    masks = {id(model.kernels[path]): mask for path, mask in model.get_masks().items()}
    dense = _dense_weights(model, reference, masks)
    with model.settled() as plain:
        walk = Walk(plain, model.kernels, batches)
        rows = [
            _refit_layer(walk, path, dense, masks, ridge, match_variances) for path in walk.matrices
        ]
    for weight in {id(w): w for m in walk.matrices.values() for w in (m.kernel, m.bias)}.values():
        if weight is not None:
            weight.assign(walk.values[id(weight)])
    if batch_statistics:
        _measure_statistics(model, batches)
    return RepairReport(rows, walk.skipped)


def _dense_weights(model, reference, masks):
    """Returns a dict of the `id` of every weight to its value in the dense network."""
    weights = model.model.weights
    own = [hosts.to_numpy(weight) for weight in weights]
    # The plain model, since the masks of the sparse one would be applied.
    found = weights_of(model.model, "reference", reference)
    pairs = zip(weights, own, found, strict=True)
    values = {id(w): before if value is None else value for w, before, value in pairs}
    pruned = [np.asarray(values[key])[~mask] for key, mask in masks.items()]
    if any(array.size for array in pruned) and not any(array.any() for array in pruned):
        raise ValueError(
            "Argument `reference` must be the network as it was before the model was pruned. Take "
            "`before = tfl.Snapshot(model)` first, since pruning writes zeros into the model "
            f"itself. Received: a {type(reference).__name__} whose weights are zero wherever the "
            "model is pruned"
        )
    return values


def _refit_layer(walk, path, dense, masks, ridge, match_variances):
    """Refits one layer in the walk, and returns its `RepairRow`."""
    matrix, moments = walk.matrices[path], walk.moments(path, dense)
    before = walk.matrix_with_bias(matrix).astype("float64")
    kept = matrix.split(masks[id(matrix.kernel)])
    if matrix.bias is not None:
        # The bias of a unit without weights has nothing to make up for.
        kept = np.concatenate([kept, kept.any(axis=1, keepdims=True)], axis=1)
    fitted = np.stack(
        [
            refit(moments.gram[group], moments.cross[group], before[group], mask, ridge)
            for group, mask in enumerate(kept)
        ]
    )
    if match_variances:
        fitted = match_variance(moments, fitted, matrix.bias is not None)
    after = np.where(kept.any(axis=1, keepdims=True), fitted, before)
    walk.assign(matrix, after)
    total = max(float(moments.squares.sum()), np.finfo("float64").tiny)
    errors = [float(squared_error(moments, w).sum()) / total for w in (before, after)]
    return RepairRow(path, *errors)


def _measure_statistics(model, batches):
    with model.settled() as plain:
        statistics = BatchStatistics(plain, run_eagerly=True)
        if statistics.layers:
            statistics.update((batch, None, None) for batch in batches)
