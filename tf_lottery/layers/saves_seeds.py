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
        """Loads what `save_own_variables` saved. States of seeds that the layer lacks are left out.

        Raises:
            ValueError: If the state of a random seed is missing.
        """
        # A Keras store has `keys`, but cannot be iterated.
        values = {key: store[key] for key in store.keys()}  # noqa: SIM118
        seeds = {f"seed_{i}": seed for i, seed in enumerate(self._seeds())}
        saved = {key: values.pop(key) for key in list(values) if key.startswith("seed_")}
        if not seeds.keys() <= saved.keys():
            raise ValueError(
                f"{self.name!r} has {len(seeds)} random seeds, such as those of dropout layers, "
                f"and needs a saved state of each. Received: {len(saved)} states"
            )
        super().load_own_variables(values)
        for key, seed in seeds.items():
            seed.assign(saved[key])

    def _seeds(self):
        weights = {id(weight) for weight in self.weights}
        return [v for v in self.non_trainable_variables if id(v) not in weights]
