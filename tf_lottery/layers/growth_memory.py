"""The state of methods that grow connections, for every kernel."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tf_lottery import hosts
from tf_lottery._typing import Tensor
from tf_lottery.layers.gradients import custom_gradient
from tf_lottery.layers.part import Part
from tf_lottery.layers.variables import add_like


@keras.saving.register_keras_serializable("tf_lottery")
class GrowthMemory(Part):
    """Holds dense gradients of the kernels, and which weights have ever been active.

    The gradient of the loss with respect to `kernel * mask` also exists at pruned positions.
    While collection is on, one variable per kernel receives it at every training step. Any Keras
    optimizer overwrites these variables with their gradients, as in Keras' float8 training. They
    have no clipping, weight decay or slots. After a step, the variable is
    `decay * variable + gain * gradient`, also if a model calls this one several times in a step:
    calls add up their gradients, and the optimizer adds the old value once.

    Args:
        decay: Float in [0, 1], the factor of the old value. Defaults to `None`: no gradients are
            collected.
        gain: Float, the factor of the new gradient. Defaults to `1.0`.
        steps: Integer > 0, the number of batches over which the optimizer accumulates gradients.
            A gradient is then the mean over these batches. Defaults to `1`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        in_use: Whether a callback is using it in a training.
        functions: The training functions without and with collection, as Keras has compiled them,
            or `None`; see `tf_lottery.training.TrainFunctions`.
        explored: List of boolean variables, true where a weight has ever been active.
        gradients: List of float variables with the shapes of the kernels, in their order; empty
            if `decay` is `None`. If the optimizer scales the loss, the gradients are scaled too.

    Example:

    >>> memory = GrowthMemory(decay=0.9, gain=0.1)
    >>> memory.create_variables([keras.Variable(np.ones((4, 3)))])
    >>> [tuple(variable.shape) for variable in memory.explored]
    [(4, 3)]
    """

    kind = "growth"
    is_weight = False
    may_begin = True
    # In the list of trainable variables, the gradients must come last.
    order = 2

    def __init__(
        self, decay: float | None = None, gain: float = 1.0, steps: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**{"name": "growth", **kwargs})
        self.decay, self.gain, self.steps = decay, gain, steps
        self.in_use, self.functions = False, None
        self.explored, self.gradients = [], []

    def create_variables(self, kernels: list[keras.Variable]) -> None:
        """Creates the variables for every kernel."""
        for i, kernel in enumerate(kernels):
            explored = add_like(
                self, kernel, f"explored_{i}", "zeros", dtype="bool", trainable=False
            )
            self.explored.append(explored)
        for i, kernel in enumerate(kernels if self.decay is not None else []):
            gradient = add_like(
                self,
                kernel,
                f"gradient_{i}",
                "zeros",
                aggregation="mean",
                overwrite_with_gradient=True,
            )
            self.gradients.append(gradient)
        self.collect(False)

    @property
    def trainable(self) -> bool:
        """Always true, even if the model is frozen. `collect` sets it for every variable."""
        return True

    @trainable.setter
    def trainable(self, value):
        del value

    def collect(self, on: bool) -> None:
        """Turns the collection of dense gradients on or off.

        Args:
            on: Boolean. The variables are trainable while collection is on.
        """
        for gradient in self.gradients:
            gradient.trainable = on

    @property
    def is_collecting(self) -> bool:
        """Whether training collects dense gradients."""
        return any(gradient.trainable for gradient in self.gradients)

    def replace(self, values: list[Tensor], training: bool | None) -> list[Tensor]:
        """Returns the kernels unchanged, and makes a call collect their gradients."""
        del training
        if not self.is_collecting:
            return values
        return list(map(self._watched, values, self.gradients))

    def _watched(self, kernel, gradient):
        gain = self.gain / self.steps

        def watched(kernel, gradient):
            def backward(upstream):
                collected = ops.cast(upstream, gradient.dtype)
                if gain != 1:
                    collected = gain * collected
                if keras.backend.backend() == "jax":
                    # Only to use the old value: JAX drops unused inputs of the training step, and
                    # then the following ones share buffers with the wrong outputs and are copied.
                    collected = ops.where(False, gradient, collected)
                return upstream, collected

            return (kernel,), backward

        return custom_gradient(watched)(kernel, ops.convert_to_tensor(gradient.value))[0]

    def clear(self) -> None:
        """Sets the dense gradients to zero."""
        for gradient in self.gradients:
            hosts.assign(gradient, np.zeros(gradient.shape, gradient.dtype))

    def explore(self, masks: list[np.ndarray]) -> None:
        """Records which weights are active.

        Args:
            masks: List of boolean arrays, one for every kernel.
        """
        for explored, mask in zip(self.explored, masks, strict=True):
            explored.assign(ops.logical_or(explored.value, mask))

    def reset(self, masks: list[np.ndarray]) -> None:
        """Clears the gradients, and marks only the currently active weights as explored.

        Args:
            masks: List of boolean arrays, one for every kernel.
        """
        self.clear()
        for explored, mask in zip(self.explored, masks, strict=True):
            hosts.assign(explored, mask)

    @property
    def lasts(self) -> bool:
        """Whether gradients are still needed after the next batch, which may overwrite them."""
        return bool(self.decay) or self.steps > 1

    def state(self) -> list[keras.Variable]:
        """Returns the list of the variables to save."""
        return [*self.explored, *(self.gradients if self.lasts else [])]

    def restore(self, values: list[np.ndarray] | None, kept: list[np.ndarray]) -> None:
        """Sets the state, or resets it if there are no values; see `reset`."""
        if values is None:
            self.reset(kept)
        else:
            super().restore(values, kept)

    def save_own_variables(self, store: Any) -> None:
        """Saves the state."""
        for i, variable in enumerate(self.state()):
            store[str(i)] = hosts.to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved. Variables that it did not save become zero."""
        # A Keras store has `keys`, but cannot be iterated.
        saved = set(store.keys())
        for i, variable in enumerate(self.state()):
            fresh = np.zeros(variable.shape, variable.dtype)
            hosts.assign(variable, store[str(i)] if str(i) in saved else fresh)

    def get_config(self) -> dict:
        """Returns the configuration, without gradients if they are not saved either."""
        decay = self.decay if self.lasts else None
        settings = {"decay": decay, "gain": self.gain, "steps": self.steps}
        return {**super().get_config(), **settings}
