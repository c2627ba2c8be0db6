"""A layer that saves its random state."""

from typing import Any

import keras
from keras import ops


class SavesSeeds(keras.layers.Layer):
    """A Keras layer that saves the states of the random seeds inside it, which Keras does not.

    With them, training after loading continues exactly as without the interruption.
    """

    def save_own_variables(self, store: Any) -> None:
        """Saves the layer's own weights and the states of the random seeds."""
        super().save_own_variables(store)
        for i, seed in enumerate(self._seeds()):
            store[f"seed_{i}"] = ops.convert_to_numpy(seed)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved."""
        # A Keras store has `keys`, but cannot be iterated.
        values = {key: store[key] for key in store.keys()}  # noqa: SIM118
        seeds = [values.pop(f"seed_{i}") for i in range(len(self._seeds()))]
        super().load_own_variables(values)
        for seed, value in zip(self._seeds(), seeds, strict=True):
            seed.assign(value)

    def _seeds(self):
        weights = {id(weight) for weight in self.weights}
        return [v for v in self.non_trainable_variables if id(v) not in weights]
