"""A layer whose selection masks the weights of the layer inside."""

import keras
import numpy as np

from tf_lottery import _keras, hosts
from tf_lottery._typing import Tensor
from tf_lottery.layers.couples_channels import CouplesChannels
from tf_lottery.layers.has_parts import HasParts
from tf_lottery.layers.missing_masks import warn_if_missing
from tf_lottery.sparsity import masks as mask_ops


class HasMasks(CouplesChannels, HasParts):
    """A Keras layer that reads and sets masks, and the stored values that follow from them.

    A subclass has the attributes `layer`, `parts`, `kernels` and `keys` of
    `tf_lottery.layers.Masked`.
    """

    # Of a copy whose masks were not set yet.
    _expected_sparsity: float | None = None

    def get_masks(self) -> list[np.ndarray]:
        """Returns the masks as a list of boolean arrays, true where a weight is kept."""
        return self.selection.kept(self.kernels)

    def set_masks(self, masks: list[np.ndarray]) -> None:
        """Sets the masks and writes zeros into the pruned positions of the kernels.

        Args:
            masks: List of boolean arrays, one for every kernel.

        Raises:
            ValueError: If an array is missing, is not boolean or has another shape. No mask is
                changed then.
        """
        kernels, masks = self.kernels, list(map(np.asarray, masks))
        if len(masks) != len(kernels):
            raise ValueError(
                f"Argument `masks` must have one array for each of the {len(kernels)} kernels "
                f"{self.keys}. Received: {len(masks)} arrays"
            )
        for key, mask, kernel in zip(self.keys, masks, kernels, strict=True):
            mask_ops.check_mask(f"masks[{key!r}]", mask, kernel.shape)
        self._expected_sparsity = None
        self.selection.keep(masks)
        self.apply_masks()

    def get_kernels(self) -> list[np.ndarray]:
        """Returns the effective kernels, with zeros for pruned weights, as a list of arrays."""
        return self.selection.settled(self.kernels)

    def apply_masks(self) -> None:
        """Writes the effective values into the kernels, and settles soft gates."""
        kernels = self.kernels
        for kernel, value in zip(kernels, self.get_kernels(), strict=True):
            hosts.assign(kernel, value)
        self.selection.commit(kernels)
        self._apply_companion_masks()

    def settled_kernels(self) -> list[np.ndarray]:
        """Returns the kernels of the plain layer that computes the same, as a list of arrays.

        Raises:
            ValueError: If no plain layer can compute the same.
        """
        for part in self.parts:
            part.check_settle()
        settled = self.get_kernels()
        if not self.selection.is_soft:
            self._check_settled(settled)
        return settled

    def _check_settled(self, settled):
        values = self.selection.replace([kernel.value for kernel in self.kernels], False)
        for key, value, array in zip(self.keys, values, settled, strict=True):
            if not np.allclose(hosts.to_numpy(value), array, atol=1e-6, equal_nan=True):
                raise ValueError(
                    f"{type(self.selection).__name__} must return by `settled` what `replace` "
                    f"makes of a kernel, unless `is_soft`. Received: other values for {key!r}"
                )

    def penalized(self) -> list[tuple[keras.Variable, Tensor]]:
        """Returns pairs of a weight and the tensor that its regularizer gets, zero where pruned.

        Stored values of pruned weights have no effect in a call, and momentum may have moved them.
        Empty if no kernel or companion has a regularizer, or if the selection changes weights that
        are kept: gates learn to scale the weights that the regularizer sees.
        """
        kernels = self.kernels
        weights = [*kernels, *self.companions]
        regularized = any(weight.regularizer is not None for weight in weights)
        if not regularized or not self.selection.kernels_can_be_assigned:
            return []
        values = self.selection.replace([kernel.value for kernel in kernels], None)
        return [*self.effective_companions(), *zip(kernels, values, strict=True)]

    def check_copy(self) -> None:
        """Warns if the wrapper was made from a configuration and its masks were never set."""
        if self._expected_sparsity is not None and not _keras.is_symbolic():
            self._expected_sparsity = warn_if_missing(self, self._expected_sparsity)
