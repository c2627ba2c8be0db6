"""Random pruning before training, the baseline of the other methods."""

from collections.abc import Callable

import numpy as np

from tf_lottery.at_init.ranking import keep_highest, set_masks, target_sparsities
from tf_lottery.model import SparseModel
from tf_lottery.sparsity import scores


def random(
    model: SparseModel,
    sparsity: float,
    *,
    distribution: str | Callable | dict | None = None,
    scope: str = "layer",
    floor: int = 1,
    seed: int | list[int] = 0,
) -> dict[str, np.ndarray]:
    """Prunes a model before training at random.

    Pruned weights stay pruned.

    Args:
        model: A `SparseModel`.
        sparsity: Float in [0, 1), the fraction of zeros after pruning.
        distribution: How `sparsity` is spread over the kernels with `scope="layer"`: a name
            such as `"erk"`, a function or a dict, as in `tfl.sparsify`. Defaults to `None`:
            every kernel has this sparsity.
        scope: `"layer"` prunes each kernel to the exact count, `"global"` draws from all
            weights together. Defaults to `"layer"`.
        floor: Integer >= 0, the minimum number of weights that every kernel keeps; see `tfl.prune`.
            Defaults to `1`.
        seed: Integer or list of integers. Defaults to `0`.

    Returns:
        Dict of kernel paths to the new masks.

    Raises:
        ValueError: If an argument is outside its range or the model is not sparse.

    Example:

    >>> sparse = tfl.sparsify(model)
    >>> masks = tfl.at_init.random(sparse, sparsity=0.9, distribution="erk")
    >>> sparse.sparsity
    0.9
    """
    target = target_sparsities(model, sparsity, scope, distribution)
    rng = np.random.default_rng(seed)
    values = [scores.random(kernel, rng=rng) for kernel in model.get_kernels().values()]
    return set_masks(model, keep_highest(model, values, target, model.get_masks(), floor), floor)
