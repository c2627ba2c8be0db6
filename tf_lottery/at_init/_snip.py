"""SNIP: prune the weights that the loss is least sensitive to, before training."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tf_lottery.at_init.ranking import keep_highest, set_masks, target_sparsities
from tf_lottery.data_sets import read_batches
from tf_lottery.layers.gradients import value_and_gradients
from tf_lottery.model import SparseModel
from tf_lottery.scoring.loss import (
    compile_for,
    effective_kernels,
    loss_of_kernels,
    sum_over_batches,
)


def snip(
    model: SparseModel,
    batches: Any,
    sparsity: float,
    *,
    distribution: str | Callable | dict | None = None,
    scope: str = "layer",
    floor: int = 1,
    loss: str | Callable | None = None,
    steps: int | None = None,
    training: bool = False,
) -> dict[str, np.ndarray]:
    """Prunes a model before training by connection sensitivity.

    The score of a weight `w` is `|w * dL/dw|`, how fast the loss changes when the weight is
    scaled down: "SNIP: Single-shot Network Pruning based on Connection Sensitivity"
    (arXiv:1810.02340, section 4). Gradients are summed over the batches before the
    magnitude is taken. The paper ranks all weights together, `scope="global"`, and scores
    one batch of training data; "Rigging the Lottery" (arXiv:1911.11134) ranks every layer
    by itself. Pruned weights stay pruned. Weights, batch statistics, seeds and the optimizer
    do not change.

    Args:
        model: A `SparseModel`, freshly initialized.
        batches: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or an iterable of
            such tuples: a list, a `tf.data.Dataset`, a `keras.utils.PyDataset`. All
            batches have equal weight.
        sparsity: Float in [0, 1), the fraction of zeros after pruning.
        distribution: How `sparsity` is spread over the kernels with `scope="layer"`: a name
            such as `"erk"`, a function or a dict, as in `tfl.sparsify`. Defaults to `None`:
            every kernel has this sparsity.
        scope: `"layer"` ranks each kernel by itself, `"global"` all weights together, as the
            paper does. Defaults to `"layer"`.
        floor: Integer >= 0, the minimum number of weights that every kernel keeps; see `tfl.prune`.
            Defaults to `1`.
        loss: Keras loss, its name, or function `(y, y_pred)`. Defaults to `None`: the loss
            that the model was compiled with, without the terms of weight regularizers.
        steps: Integer > 0, how many batches to use at most. Defaults to `None`: all.
        training: Whether batch normalization and dropout behave as in training. Defaults to
            `False`, as in the official code.

    Returns:
        Dict of kernel paths to the new masks.

    Raises:
        ValueError: If an argument is outside its range, the model is not sparse or has no
            loss, there is no batch, or a score is not finite.

    Example:

    >>> sparse = tfl.sparsify(model)
    >>> sparse.compile("adam", loss)
    >>> masks = tfl.at_init.snip(sparse, (x[:128], y[:128]), sparsity=0.9)
    >>> sparse.sparsity
    0.9
    """
    target = target_sparsities(model, sparsity, scope, distribution)
    with loss_of_kernels(model, loss, training) as loss_of:

        def gradients_of(kernels, *batch):
            return value_and_gradients(loss_of, kernels, *batch)[1]

        kernels = effective_kernels(model)
        batches = read_batches(batches, steps)
        gradients = sum_over_batches(compile_for(model, gradients_of), batches, kernels)
    scores = [ops.abs(kernel * g) for kernel, g in zip(kernels, gradients, strict=True)]
    return set_masks(model, keep_highest(model, scores, target, model.get_masks(), floor), floor)
