"""SET: connections grow at random."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tf_lottery.callbacks.dynamic_sparse_training import DynamicSparseTraining
from tf_lottery.sparsity.patterns import Pattern


@keras.saving.register_keras_serializable("tf_lottery")
class SET(DynamicSparseTraining):
    """Drops the smallest weights and grows others at random.

    Sparse Evolutionary Training (Mocanu et al., arXiv:1707.04780), with the annealed drop
    fraction of arXiv:1911.11134, section 4. It needs no dense gradients. Start from random masks,
    `tfl.sparsify(..., scores="random")`, as the paper does.

    Args:
        frequency: Integer > 0. Steps between two updates. Defaults to `100`.
        drop_fraction: Float in [0, 1) or a schedule; see `DynamicSparseTraining`.
            Defaults to `0.3`, annealed by a cosine.
        begin_step: Integer >= 0. Defaults to `0`.
        end_step: Integer, exclusive. Defaults to `None`: 75% of training.
        pattern: A pattern, or its name. Defaults to `None`: that of the model. Channels that
            grow start with random weights; see `DynamicSparseTraining`.
        seed: Integer, for the random choice of new connections. Defaults to `0`.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> moving = SET(frequency=2, seed=1)
    >>> history = sparse.fit(x, y, epochs=10, callbacks=[moving], verbose=0)
    >>> sparse.sparsity
    0.9
    """

    def __init__(
        self,
        frequency: int = 100,
        drop_fraction: float | Callable[[int], float] = 0.3,
        *,
        begin_step: int = 0,
        end_step: int | None = None,
        pattern: Pattern | str | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            frequency,
            drop_fraction,
            begin_step=begin_step,
            end_step=end_step,
            pattern=pattern,
            seed=seed,
            **kwargs,
        )

    def grow_scores(
        self, name: str, weights: np.ndarray, gradient: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns random numbers."""
        del name, gradient
        return rng.random(weights.shape, dtype="float32")
