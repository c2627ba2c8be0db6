"""GraSP: prune the weights whose removal costs the least gradient flow, before training."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tf_lottery.at_init.ranking import keep_highest, set_masks, target_sparsities
from tf_lottery.data_sets import read_batches
from tf_lottery.layers.gradients import hessian_products, value_and_gradients
from tf_lottery.model import SparseModel
from tf_lottery.scoring.loss import (
    compile_for,
    effective_kernels,
    loss_of_kernels,
    sum_over_batches,
)


def grasp(
    model: SparseModel,
    batches: Any,
    sparsity: float,
    *,
    distribution: str | Callable | dict | None = None,
    scope: str = "layer",
    floor: int = 1,
    loss: str | Callable | None = None,
    steps: int | None = None,
    training: bool = True,
    temperature: float = 1.0,
) -> dict[str, np.ndarray]:
    """Prunes a model before training so that its gradients stay large.

    Removing a weight `w` changes the squared norm of the gradient `g` by `-2 * w * (H g)`
    to first order, where `H` is the Hessian of the loss: "Picking Winning Tickets Before
    Training by Preserving Gradient Flow" (arXiv:2002.07376, algorithm 1). The weights with
    the highest `w * (H g)`, whose removal reduces the norm most, are kept; negative ones,
    whose removal increases it, are pruned first. As in the official code `H` and `g` are
    sums over the batches; it uses about ten examples of each class. Pruned weights stay
    pruned. Weights, batch statistics, seeds and the optimizer do not change.

    Args:
        model: A `SparseModel`, freshly initialized. On GPUs, TensorFlow has no second
            derivatives of the fused recurrent layers; give those `use_cudnn=False`.
        batches: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or an iterable of
            such tuples: a list, a `tf.data.Dataset`, a `keras.utils.PyDataset`. They are
            kept in memory, since they are used twice. All batches have equal weight.
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
            `True`, as in the official code.
        temperature: Float > 0, by which the outputs are divided. Unless it is 1, they have to
            be logits. The official code uses 200. Defaults to `1.0`.

    Returns:
        Dict of kernel paths to the new masks.

    Raises:
        ValueError: If an argument is outside its range, the model is not sparse or has no
            loss, there is no batch, or a score is not finite.

    Example:

    >>> sparse = tfl.sparsify(model)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> masks = tfl.at_init.grasp(sparse, (x[:100], y[:100]), 0.9, loss=loss, temperature=200)
    >>> sparse.sparsity
    0.9
    """
    target = target_sparsities(model, sparsity, scope, distribution)
    with loss_of_kernels(model, loss, training, temperature) as loss_of:

        def gradients_of(kernels, *batch):
            return value_and_gradients(loss_of, kernels, *batch)[1]

        def products_of(kernels, directions, *batch):
            return hessian_products(loss_of, kernels, directions, *batch)

        kernels = effective_kernels(model)
        batches = list(read_batches(batches, steps))
        gradients = sum_over_batches(compile_for(model, gradients_of), batches, kernels)
        products = sum_over_batches(compile_for(model, products_of), batches, kernels, gradients)
    scores = [kernel * product for kernel, product in zip(kernels, products, strict=True)]
    return set_masks(model, keep_highest(model, scores, target, model.get_masks(), floor), floor)
