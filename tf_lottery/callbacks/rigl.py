"""RigL: connections grow where the gradient is largest."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tf_lottery.callbacks.dynamic_sparse_training import DynamicSparseTraining
from tf_lottery.checks import positive_integer
from tf_lottery.sparsity.patterns import Pattern


@keras.saving.register_keras_serializable("tf_lottery")
class RigL(DynamicSparseTraining):
    """Drops the smallest weights and grows those with the largest gradients.

    "Rigging the Lottery" (Evci et al., arXiv:1911.11134, section 3 and algorithm 1). An update
    uses the gradient of the training batch at its step with respect to all weights, including
    pruned ones. The defaults are the paper's.

    There are two differences from the paper's algorithm. The optimizer also makes its step when
    connections are moved, where the paper and the official code skip it. There is no update at
    step 0, before the network has learned anything; the official code makes one. Masks start
    random, as there: `scores="random"`.

    Args:
        frequency: Integer > 0. Steps between two updates. Defaults to `100`, the best of the
            paper's ablation and the default of the official code.
        drop_fraction: Float in [0, 1) or a schedule; see `DynamicSparseTraining`. Defaults to
            `0.3`, annealed by a cosine, as in the paper; the official code has 0.3 too, but no
            annealing unless that is asked for.
        begin_step: Integer >= 0. Defaults to `0`.
        end_step: Integer, exclusive. Defaults to `None`: 75% of training, about the share in the
            paper, 25,000 of 32,000 steps. Without updates the last connections can settle.
        grow_init: `"zeros"` or `"gradient"`. Defaults to `"zeros"`.
        grad_accumulation: Integer from 1 to `frequency`. The gradient is the mean over this
            many batches before an update, which helps if batches are small. With
            `steps_per_execution` above 1, whole executions are averaged. With
            `gradient_accumulation_steps` in the optimizer, this many of its steps are averaged.
            Defaults to `1`.
        pattern: A pattern, or its name. Defaults to `None`: that of the model. `"channel"` is
            refused, since a pruned channel has no gradient.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> sparse = tfl.sparsify(model, sparsity=0.9, distribution="erk", scores="random")
    >>> sparse.compile("adam", loss)
    >>> history = sparse.fit(x, y, epochs=10, callbacks=[RigL(frequency=2)], verbose=0)
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
        grow_init: str = "zeros",
        grad_accumulation: int = 1,
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
        self.grad_accumulation = positive_integer("grad_accumulation", grad_accumulation)
        if grad_accumulation > frequency:
            raise ValueError(
                "Argument `grad_accumulation` must not exceed `frequency`. Received: "
                f"grad_accumulation={grad_accumulation}, frequency={frequency}"
            )

    def check_model(self) -> None:
        """Raises a `ValueError` if gradients from before the previous update would be needed."""
        steps = max(1, self.frequency // self._accumulated)
        if self.grad_accumulation > steps:
            raise ValueError(
                "Argument `grad_accumulation` must not exceed the steps of the optimizer between "
                f"two updates, {steps} with `gradient_accumulation_steps={self._accumulated}`. "
                f"Received: grad_accumulation={self.grad_accumulation}, frequency={self.frequency}"
            )

    @property
    def gradient_average(self) -> tuple[float, float]:
        """Pair `decay, gain`: the last gradient, or the mean of the last ones."""
        return (0.0, 1.0) if self.grad_accumulation == 1 else (1.0, 1.0 / self.grad_accumulation)

    def grow_scores(
        self, name: str, weights: np.ndarray, gradient: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns the magnitude of the gradient."""
        del name, weights, rng
        return np.abs(gradient)

    def next_step(self) -> int | None:
        """Returns the next step at which connections are moved or accumulation starts."""
        update = super().next_step()
        if update is None or self.grad_accumulation == 1:
            return update
        start = update - self.grad_accumulation * self._accumulated
        return start if start > self.step else update

    def on_step(self) -> None:
        """Moves connections if an update is due, and restarts the accumulation."""
        if self._num_due() > self._updated:
            super().on_step()
        if self.grad_accumulation > 1:
            self.model.growth.clear()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Stops collecting gradients, and clears those that no update will use."""
        if self.grad_accumulation > 1 and super().next_step() is None:
            self.model.growth.clear()
        super().on_train_end(logs)
