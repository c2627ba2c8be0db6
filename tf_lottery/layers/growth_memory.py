"""What methods that grow connections remember about every kernel."""

import keras
import numpy as np
from keras import ops

from tf_lottery.layers.part import Part
from tf_lottery.layers.variables import add_like


@keras.saving.register_keras_serializable("tf_lottery")
class GrowthMemory(Part):
    """Holds dense gradients of the kernels, and which weights have ever been active.

    The gradient of the loss with respect to `kernel * mask` exists at pruned positions
    too. While the memory collects, a variable per kernel receives it at every training
    step from any Keras optimizer: such variables are overwritten with their gradients, as
    those of Keras' float8 training are, and stay outside of clipping, weight decay and
    slots. After a step the variable is `decay * variable + gain * gradient`.

    Args:
        decay: Float in [0, 1], what is left of the variable after a step. Defaults to
            `None`: no gradients are kept at all.
        gain: Float, how much of a gradient is added. Defaults to `1.0`.
        steps: Integer > 0, the batches over which the optimizer accumulates gradients; a gradient
            is then the mean over them. Defaults to `1`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        in_use: Whether a method is training with it.
        explored: List of boolean variables, true where a weight has ever been active.
        gradients: List of float variables, empty if `decay` is `None`. They are those of
            the scaled loss if the optimizer scales it.

    Example:

    >>> memory = GrowthMemory(decay=0.9, gain=0.1)
    >>> memory.create_variables([keras.Variable(np.ones((4, 3)))])
    >>> [tuple(variable.shape) for variable in memory.explored]
    [(4, 3)]
    """

    kind = "growth"
    is_weight = False
    may_begin = True
    # An optimizer must find the gradients behind everything else that is trained.
    order = 2

    def __init__(self, decay=None, gain=1.0, steps=1, **kwargs):
        super().__init__(**{"name": "growth", **kwargs})
        self.decay, self.gain, self.steps = decay, gain, steps
        self.in_use = False
        self.explored, self.gradients = [], []

    def create_variables(self, kernels):
        """Creates the variables of every kernel."""
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
    def trainable(self):
        """True, also if the model is frozen: `collect` decides for every variable."""
        return True

    @trainable.setter
    def trainable(self, value):
        del value

    def collect(self, on):
        """Turns the collection of dense gradients on or off.

        Args:
            on: Boolean. The variables are trainable while it is on.
        """
        for gradient in self.gradients:
            gradient.trainable = on

    def replace(self, values, training):
        """Returns the effective kernels, whose gradients are collected."""
        del training
        if not any(gradient.trainable for gradient in self.gradients):
            return values
        return list(map(self._watched, values, self.gradients))

    def _watched(self, kernel, gradient):
        # The optimizer itself adds up what it accumulates.
        decay = self.decay if self.steps == 1 else 0
        gain = self.gain / self.steps

        @ops.custom_gradient
        def watched(kernel, gradient):
            def backward(*args, upstream=None):
                upstream = ops.convert_to_tensor(args[0] if upstream is None else upstream)
                collected = ops.cast(upstream, gradient.dtype)
                if gain != 1:
                    collected = gain * collected
                if decay:
                    collected = collected + decay * gradient
                return upstream, collected

            return kernel, backward

        return watched(kernel, ops.convert_to_tensor(gradient.value))

    def clear(self):
        """Sets the dense gradients to zero."""
        for gradient in self.gradients:
            gradient.assign(np.zeros(gradient.shape, gradient.dtype))

    def explore(self, masks):
        """Remembers which weights are active.

        Args:
            masks: List of boolean arrays, one for every kernel.
        """
        for explored, mask in zip(self.explored, masks, strict=True):
            explored.assign(ops.logical_or(explored.value, mask))

    def reset(self, masks):
        """Forgets everything but the weights that are active now.

        Args:
            masks: List of boolean arrays, one for every kernel.
        """
        self.clear()
        for explored, mask in zip(self.explored, masks, strict=True):
            explored.assign(mask)

    @property
    def lasts(self):
        """Whether the gradients count beyond the next batch, which else writes them anew."""
        return bool(self.decay) or self.steps > 1

    def state(self):
        """Returns the list of the variables that are worth saving."""
        return [*self.explored, *(self.gradients if self.lasts else [])]

    def restore(self, values, kept):
        """Sets the state, or forgets everything but the weights that are active now."""
        if values is None:
            self.reset(kept)
        else:
            super().restore(values, kept)

    def save_own_variables(self, store):
        """Saves the state."""
        for i, variable in enumerate(self.state()):
            store[str(i)] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store):
        """Loads what `save_own_variables` saved, or resets what it did not save."""
        # The stores of Keras are not mappings: they have keys, but cannot be iterated.
        saved = set(store.keys())
        for i, variable in enumerate(self.state()):
            fresh = np.zeros(variable.shape, variable.dtype)
            variable.assign(store[str(i)] if str(i) in saved else fresh)

    def get_config(self):
        """Returns the configuration."""
        settings = {"decay": self.decay, "gain": self.gain, "steps": self.steps}
        return {**super().get_config(), **settings}
