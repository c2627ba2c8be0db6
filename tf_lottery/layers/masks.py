"""The selection by fixed masks."""

from typing import Any

import keras
import numpy as np

from tf_lottery import hosts
from tf_lottery._typing import Tensor
from tf_lottery.layers.part import Selection
from tf_lottery.layers.products import zeroing_product
from tf_lottery.layers.variables import add_like


@keras.saving.register_keras_serializable("tf_lottery")
class Masks(Selection):
    """Replaces pruned weights by zeros.

    The zeros are part of the forward pass. Therefore the gradients of pruned weights are zero,
    gradient norms are those of the sparse network, and no optimizer can revive a weight.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        masks: List of non-trainable boolean variables, one for every kernel, initially all true.

    Example:

    >>> [tuple(mask.shape) for mask in sparse.selection.masks]
    [(8, 10), (10, 2)]
    """

    structured = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"name": "masks", **kwargs})
        self.masks = []

    def create_variables(self, kernels: list[keras.Variable]) -> None:
        """Creates a mask for every kernel."""
        for i, kernel in enumerate(kernels):
            mask = add_like(self, kernel, f"mask_{i}", "ones", dtype="bool", trainable=False)
            self.masks.append(mask)

    def replace(self, values: list[Tensor], training: bool | None) -> list[Tensor]:
        """Returns the kernels, with zeros at pruned positions."""
        del training
        return [
            zeroing_product(value, mask.value)
            for value, mask in zip(values, self.masks, strict=True)
        ]

    def kept(self, kernels: list[keras.Variable]) -> list[np.ndarray]:
        """Returns the masks as a list of boolean arrays."""
        del kernels
        return [hosts.to_numpy(mask) for mask in self.masks]

    def keep(self, masks: list[np.ndarray]) -> None:
        """Sets the masks."""
        for variable, mask in zip(self.masks, masks, strict=True):
            hosts.assign(variable, mask)
