"""`tfl.sensitivity`: how much a model suffers when one of its kernels is pruned."""

import collections.abc
from typing import Any

import keras
import numpy as np

from tf_lottery import hosts
from tf_lottery.analysis._flops import flops
from tf_lottery.analysis.connectivity import check_model, evaluate
from tf_lottery.analysis.sensitivity_report import MEASURES, KernelSensitivity, Sensitivity
from tf_lottery.calibration.inputs import input_batches
from tf_lottery.calibration.walk import Walk
from tf_lottery.checks import choice, fraction
from tf_lottery.kernel_ranking import kernel_scores, ranked_masks
from tf_lottery.model import SparseModel, check_settled
from tf_lottery.snapshot import Snapshot

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


def sensitivity(
    model: SparseModel,
    data: Any,
    *,
    measure: str | None = None,
    sparsities: collections.abc.Sequence[float] = SPARSITIES,
    scores: str | collections.abc.Callable = "magnitude",
    batch_size: int = 256,
    verbose: int = 1,
) -> Sensitivity:
    """Measures what happens when one kernel, or channel group, is pruned and the others are not.

    Kernels differ in how many of their weights they can spare. `allocate` of the result
    finds the sparsities that meet a budget. The model is left exactly as it was.

    Args:
        model: A `SparseModel`, compiled for the measures `"loss"` and `"accuracy"`. Weights that
            are pruned already stay pruned.
        data: A tuple of arrays `(x, y)` or `(x, y, sample_weight)`. Or inputs alone, as in
            `tfl.repair`: then the change of the outputs is measured, or of those of layers.
        measure: What to measure. `"loss"` and `"accuracy"` need labels. `"outputs"`: the squared
            difference from the outputs without pruning, relative to their variance. `"layers"`:
            the same of what the kernel adds to its own layer's outputs, relative to its square: a
            second-order estimate that takes one pass for each kernel instead of one for each
            kernel and sparsity, only for layers that `tfl.repair` supports; the others are
            `skipped`. Defaults to `None`: `"loss"` with labels, else `"outputs"`.
        sparsities: Floats in (0, 1), rising. Defaults to `(0.5, 0.7, 0.8, 0.9, 0.95, 0.98)`.
        scores: The weights with the lowest scores are pruned; see `tfl.prune`. Defaults to
            `"magnitude"`.
        batch_size: Integer > 0. Defaults to `256`.
        verbose: Whether to show the progress and the time left. Defaults to `1`.

    Returns:
        A `Sensitivity`.

    Raises:
        ValueError: If an argument is outside its range, does not fit the data, or the model has
            soft gates or no loss.

    Example:

    >>> result = tfl.sensitivity(sparse, (x, y), sparsities=(0.95, 0.99), verbose=0)
    >>> [row.name for row in result.rows], result.measure
    (['net/hidden/kernel', 'net/output/kernel'], 'loss')
    """
    check_settled(model)
    has_labels = isinstance(data, tuple) and len(data) in (2, 3)
    measure = ("loss" if has_labels else "outputs") if measure is None else measure
    choice("measure", measure, tuple(MEASURES))
    if measure in ("loss", "accuracy") and not has_labels:
        raise ValueError(
            f"Argument `data` must be a tuple `(x, y)` to measure the {measure}. "
            f"Received: {type(data).__name__}"
        )
    shares = _checked_sparsities(sparsities)
    values = kernel_scores(model, scores)
    names = list(model.to_matrices(model.get_masks(), model.pattern))
    x = data[0] if has_labels else data
    if measure == "layers":
        found, skipped = _layer_changes(model, x, names, shares, values, batch_size)
        unpruned = 0.0
    else:
        measured, unpruned = _evaluation(model, data, x, measure, batch_size)
        found, skipped = _model_values(model, names, shares, values, measured, verbose), {}
    matrices = model.to_matrices(model.get_masks(), model.pattern)
    costs = _dense_flops(model)
    rows = [
        KernelSensitivity(name, int(np.size(matrices[name])), found[name], costs.get(name))
        for name in found
    ]
    return Sensitivity(measure, shares, rows, unpruned, model.couples(), skipped)


def _checked_sparsities(sparsities):
    is_sequence = np.iterable(sparsities) and not isinstance(sparsities, str)
    found = [fraction("sparsities", value) for value in sparsities] if is_sequence else []
    if not found or found[0] <= 0 or any(a >= b for a, b in zip(found, found[1:], strict=False)):
        raise ValueError(
            "Argument `sparsities` must be rising numbers above 0 and below 1. "
            f"Received: sparsities={sparsities!r}"
        )
    return found


def _masks_of_one(model, names, name, sparsity, scores):
    """Returns the masks with which one kernel or group is pruned, and the others are not."""
    return ranked_masks(model, scores, {**dict.fromkeys(names, 0.0), name: sparsity})


def _model_values(model, names, sparsities, scores, measured, verbose):
    """Returns a dict of names to what `measured` returns at every sparsity."""
    before = Snapshot(model)
    progress = keras.utils.Progbar(len(names) * len(sparsities), verbose=verbose)
    found = {name: [] for name in names}
    for name in names:
        for sparsity in sparsities:
            try:
                model.set_masks(_masks_of_one(model, names, name, sparsity, scores))
                found[name].append(measured())
            finally:
                before.restore(model, kinds=("weights", "masks"))
            progress.add(1)
    return found


def _evaluation(model, data, x, measure, batch_size):
    """Returns a function without arguments that measures the model, and the value without pruning.

    Args:
        model: A `SparseModel`.
        data: The user's data.
        x: The inputs alone.
        measure: `"loss"`, `"accuracy"` or `"outputs"`.
        batch_size: Integer.
    """
    if measure == "outputs":
        batches = input_batches("data", x, batch_size)
        dense = _outputs(model, batches)
        scale = sum(max(float(np.var(array)), 1e-30) * array.size for array in dense)

        def change():
            pairs = zip(_outputs(model, batches), dense, strict=True)
            return sum(float(np.square(a - b).sum()) for a, b in pairs) / scale

        return change, 0.0
    check_model(model)

    def value():
        loss, error = evaluate(model, data, batch_size)
        if measure == "loss":
            return loss
        if error is None:
            raise ValueError(
                "Argument `measure` must be 'loss' for a model that is compiled without a metric "
                "of accuracy. Received: measure='accuracy'"
            )
        return 1.0 - error

    return value, value()


def _outputs(model, batches):
    """Returns the outputs as a list of arrays, one for every output of the model."""
    found = [keras.tree.flatten(model.predict_on_batch(batch)) for batch in batches]
    return [np.concatenate(parts).astype("float64") for parts in zip(*found, strict=True)]


def _layer_changes(model, x, names, sparsities, scores, batch_size):
    """Returns the change of every kernel's layer's outputs, and why other kernels have none.

    Both are dicts of the names of kernels.
    """
    if model.couples():
        raise ValueError(
            "Argument `measure` must not be 'layers' for channel groups, which are pruned in "
            "several layers. Received: measure='layers'"
        )
    found = {}
    with model.settled() as plain:
        walk = Walk(plain, model.kernels, input_batches("data", x, batch_size))
        for name, matrix in walk.matrices.items():
            gram = walk.moments(name).gram
            kernel = hosts.to_numpy(matrix.kernel)
            weights = matrix.split(kernel)
            gram = gram[:, : weights.shape[1], : weights.shape[1]]
            total = max(_energy(gram, weights), 1e-30)
            masks = [_masks_of_one(model, names, name, s, scores)[name] for s in sparsities]
            found[name] = [
                _energy(gram, matrix.split(np.where(mask, 0.0, kernel))) / total for mask in masks
            ]
    return found, walk.skipped


def _energy(gram, weights):
    """Returns the sum of the squared outputs that weights make of inputs."""
    return float(np.einsum("gku,gku->", weights, gram @ weights))


def _dense_flops(model):
    try:
        return {row.path: float(row.dense) for row in flops(model).rows}
    except Exception:  # A model's own code may fail in any way when it is traced.
        return {}
