"""SNFS: connections grow where the averaged gradient is largest."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tf_lottery.callbacks.dynamic_sparse_training import DynamicSparseTraining
from tf_lottery.checks import fraction
from tf_lottery.sparsity.patterns import Pattern

MAX_GROWN = 0.99


@keras.saving.register_keras_serializable("tf_lottery")
class SNFS(DynamicSparseTraining):
    """Drops the smallest weights and grows those with the largest momentum.

    Sparse Networks From Scratch (Dettmers & Zettlemoyer, arXiv:1907.04840). Scores are the
    magnitude of an exponential moving average of the dense gradients. The average starts at 0
    and is updated at every step. Without redistribution, this is the variant in the comparison of
    arXiv:1911.11134. The model keeps the average after training, so that training can continue.
    `tfl.strip` returns a model without it.

    Args:
        frequency: Integer > 0. Steps between two updates. Defaults to `100`.
        drop_fraction: Float in [0, 1) or a schedule; see `DynamicSparseTraining`.
            Defaults to `0.3`, annealed by a cosine.
        begin_step: Integer >= 0. Defaults to `0`.
        end_step: Integer, exclusive. Defaults to `None`: 75% of training.
        momentum: Float in [0, 1), the decay of the average. Defaults to `0.9`.
        redistribution: Boolean. Whether the dropped weights of all kernels are distributed in
            proportion to each kernel's mean momentum magnitude of active weights, as in section 3
            of the paper. The densities of kernels then change, but not that of the network.
            Defaults to `False`.
        grow_init: `"zeros"` or `"gradient"`. Defaults to `"zeros"`.
        pattern: A pattern, or its name. Defaults to `None`: that of the model.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> moving = SNFS(frequency=2, redistribution=True)
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
        momentum: float = 0.9,
        redistribution: bool = False,
        grow_init: str = "zeros",
        pattern: Pattern | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            frequency,
            drop_fraction,
            begin_step=begin_step,
            end_step=end_step,
            grow_init=grow_init,
            pattern=pattern,
            **kwargs,
        )
        self.momentum = fraction("momentum", momentum)
        self.redistribution = redistribution

    def check_model(self) -> None:
        """Raises a `ValueError` if the pattern does not allow redistribution."""
        pattern = self.model.pattern if self.pattern is None else self.pattern
        if self.redistribution and pattern.structured:
            raise ValueError(
                "Argument `redistribution` must be `False` with a structured pattern, which fixes "
                f"the density of kernels. Received: redistribution=True, pattern='{pattern}'"
            )

    @property
    def gradient_average(self) -> tuple[float, float]:
        """Pair `decay, gain` of the exponential moving average."""
        return self.momentum, 1.0 - self.momentum

    def grow_scores(
        self, name: str, weights: np.ndarray, gradient: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns the magnitude of the momentum."""
        del name, weights, rng
        return np.abs(gradient)

    def num_grown(
        self, masks: dict[str, np.ndarray], fraction: float, gradients: dict[str, np.ndarray | None]
    ) -> dict[str, int] | None:
        """Returns how many of all dropped connections each kernel grows."""
        if not self.redistribution:
            return None
        dropped = {path: int(np.count_nonzero(m) * fraction) for path, m in masks.items()}
        # As in the authors' code, no kernel becomes full, since a full one could not change again.
        limits = {
            path: max(
                dropped[path], int(MAX_GROWN * (m.size - np.count_nonzero(m) + dropped[path]))
            )
            for path, m in masks.items()
        }
        weights = {
            path: float(np.abs(gradients[path])[mask].mean()) if mask.any() else 0.0
            for path, mask in masks.items()
        }
        return share_out(sum(dropped.values()), weights, limits)


def share_out(total, weights, limits):
    """Divides a number in proportion to weights, with an upper limit for each share.

    Args:
        total: Integer, at most the sum of `limits`.
        weights: Dict of names to floats >= 0.
        limits: Dict of names to integers.

    Returns:
        Dict of names to integers with the sum `total`.

    Example:

    >>> share_out(10, {"a": 3.0, "b": 1.0, "c": 1.0}, {"a": 4, "b": 9, "c": 9})
    {'a': 4, 'b': 3, 'c': 3}
    """
    shares, names = {}, list(weights)
    while names:
        rest = total - sum(shares.values())
        scale = sum(weights[name] for name in names)
        wanted = {n: rest * (weights[n] / scale if scale else 1 / len(names)) for n in names}
        full = [name for name in names if wanted[name] >= limits[name]]
        if not full:
            break
        shares.update((name, limits[name]) for name in full)
        names = [name for name in names if name not in full]
    else:
        return shares
    shares.update((name, int(wanted[name])) for name in names)
    # The rest from rounding down goes to the shares with the largest remainders.
    names.sort(key=lambda name: int(wanted[name]) - wanted[name])
    for name in names[: total - sum(shares.values())]:
        shares[name] += 1
    return shares
