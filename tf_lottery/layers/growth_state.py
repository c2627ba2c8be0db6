"""What methods that grow connections remember about every kernel."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("tf_lottery")
class GrowthState(keras.layers.Layer):
    """Holds dense gradients of the kernels, and which weights have ever been active.

    The gradient of the loss with respect to `kernel * mask` exists at pruned positions
    too. While the state collects, a variable per kernel receives it at every training
    step from any Keras optimizer: such variables are overwritten with their gradients, as
    those of Keras' float8 training are, and stay outside of clipping, weight decay and
    slots. After a step the variable is `decay * variable + gain * gradient`.

    Args:
        shapes: List of tuples, the shapes of the kernels.
        decay: Float in [0, 1], what is left of the variable after a step. Defaults to
            `None`: no gradients are kept at all.
        gain: Float, how much of a gradient is added. Defaults to `1.0`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        owner: Identity of the callback that uses the state.
        explored: List of boolean variables, true where a weight has ever been active.
        gradients: List of float variables, empty if `decay` is `None`. They are those of
            the scaled loss if the optimizer scales it.

    Example:

    >>> state = GrowthState([(4, 3)], decay=0.9, gain=0.1)
    >>> [tuple(variable.shape) for variable in state.explored]
    [(4, 3)]
    """

    def __init__(self, shapes, decay=None, gain=1.0, **kwargs):
        super().__init__(**{"name": "growth", **kwargs, "dtype": "float32"})
        self.shapes = [tuple(shape) for shape in shapes]
        self.owner = None
        self.decay, self.gain = decay, gain
        self.explored, self.gradients = [], []
        self.build()

    def build(self):
        """Creates the variables."""
        for i, shape in enumerate(self.shapes):
            self.explored.append(
                self.add_weight(
                    name=f"explored_{i}",
                    shape=shape,
                    initializer="zeros",
                    dtype="bool",
                    trainable=False,
                    autocast=False,
                )
            )
        for i, shape in enumerate(self.shapes if self.decay is not None else []):
            gradient = self.add_weight(
                name=f"gradient_{i}",
                shape=shape,
                initializer="zeros",
                autocast=False,
                aggregation="mean",
                overwrite_with_gradient=True,
            )
            self.gradients.append(gradient)
        self.collect(False)
        self.built = True

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

    def watch(self, index, kernel):
        """Returns the effective kernel `kernel`, its gradient being collected.

        Args:
            index: Integer, the position among `shapes`.
            kernel: Float tensor, the masked kernel.
        """
        if not self.gradients or not self.gradients[index].trainable:
            return kernel
        decay, gain = self.decay, self.gain

        @ops.custom_gradient
        def watched(kernel, gradient):
            def backward(*args, upstream=None):
                upstream = ops.convert_to_tensor(args[0] if upstream is None else upstream)
                collected = ops.cast(upstream, "float32")
                if gain != 1:
                    collected = gain * collected
                if decay:
                    collected = collected + decay * gradient
                return upstream, collected

            return kernel, backward

        return watched(kernel, ops.convert_to_tensor(self.gradients[index].value))

    def clear(self):
        """Sets the dense gradients to zero."""
        for gradient in self.gradients:
            gradient.assign(np.zeros(gradient.shape, "float32"))

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
    def lasting(self):
        """List of the variables that are worth saving."""
        # Without decay the next training step writes the gradients anew.
        return [*self.explored, *(self.gradients if self.decay else [])]

    def save_own_variables(self, store):
        """Saves the lasting variables."""
        for i, variable in enumerate(self.lasting):
            store[str(i)] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store):
        """Loads what `save_own_variables` saved, or resets what it did not save."""
        # The stores of Keras are not mappings: they have keys, but cannot be iterated.
        saved = set(store.keys())
        for i, variable in enumerate(self.lasting):
            fresh = np.zeros(variable.shape, variable.dtype)
            variable.assign(store[str(i)] if str(i) in saved else fresh)

    def get_config(self):
        """Returns the configuration."""
        return {
            **super().get_config(),
            "shapes": self.shapes,
            "decay": self.decay,
            "gain": self.gain,
        }
