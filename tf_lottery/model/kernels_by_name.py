"""The kernels and masks of a sparse model, by the names of the kernels."""

import numpy as np

from tf_lottery.layers import matrix_shapes
from tf_lottery.sparsity import masks as mask_ops


class KernelsByName:
    """What a sparse model tells of its kernels and masks, and how masks are set.

    A subclass has the `tf_lottery.layers.Masked` that holds the kernels as `wrapper`.
    """

    @property
    def kernels(self):
        """Dict of names to the variables that are pruned.

        A name is the path that the variable had when the model was made sparse.

        Raises:
            ValueError: If a layer has changed since then so that no mask holds.
        """
        return self._by_name(self.wrapper.kernels)

    @property
    def named_weights(self):
        """Dict of names to all weights of the wrapped model; see `kernels`."""
        return self.wrapper.named_weights()

    def _by_name(self, values):
        return dict(zip(self.wrapper.keys, values, strict=True))

    @property
    def matrix_shapes(self):
        """Dict of kernel names to (inputs, outputs); `None` for kernels that are no matrix.

        See `tf_lottery.layers.matrix_shapes`.
        """
        return self._by_name(matrix_shapes(self.model, self.wrapper.kernels))

    @property
    def density(self):
        """The fraction of weights the masks keep, over all kernels."""
        return mask_ops.density(self.get_masks())

    @property
    def sparsity(self):
        """The fraction of weights the masks prune, over all kernels."""
        return 1.0 - self.density

    def get_masks(self):
        """Returns a dict of kernel names to boolean arrays, True meaning kept."""
        return self._by_name(self.wrapper.get_masks())

    def to_matrices(self, arrays):
        """Reshapes arrays of kernels to (inputs, outputs), as patterns see them.

        Args:
            arrays: Dict of kernel names to NumPy arrays in the shapes of the kernels.

        Returns:
            Dict of the same paths to matrices. Kernels that are no such matrix, to which no
            structured pattern applies, keep their shapes.

        Example:

        >>> matrices = convolutional.to_matrices(convolutional.get_kernels())
        >>> matrices["small/stem/kernel"].shape
        (27, 4)
        """
        shapes = self.matrix_shapes
        return {path: array.reshape(shapes[path] or array.shape) for path, array in arrays.items()}

    def from_matrices(self, arrays):
        """Reshapes matrices as `to_matrices` makes them to the shapes of the kernels.

        Args:
            arrays: Dict of kernel names to NumPy arrays.

        Returns:
            Dict of the same paths to arrays, as `set_masks` expects them.
        """
        kernels = self.kernels
        return {path: array.reshape(kernels[path].shape) for path, array in arrays.items()}

    def set_masks(self, masks):
        """Sets masks and writes zeros into the pruned positions of the kernels.

        Args:
            masks: Dict of kernel names to boolean arrays; kernels it leaves out keep
                their masks.

        Raises:
            ValueError: If a path is unknown or an array is not boolean or does not fit;
                then no mask is changed.
        """
        before = self.get_masks()
        masks = {path: np.asarray(mask) for path, mask in masks.items()}
        for path, mask in masks.items():
            if path not in before:
                raise ValueError(
                    "Argument `masks` must have paths of the model's kernels, "
                    f"{sorted(before)}. Received: {path!r}"
                )
            mask_ops.check_mask(f"masks[{path!r}]", mask, before[path].shape)
        self.wrapper.set_masks(list({**before, **masks}.values()))

    def get_kernels(self):
        """Returns a dict of kernel names to the effective values, `kernel * mask`."""
        return self._by_name(self.wrapper.get_kernels())

    def apply_masks(self):
        """Writes what is left of the kernels into them; from then on soft gates are hard."""
        self.wrapper.apply_masks()

    def check_kernels(self):
        """Raises a `ValueError` if a layer has changed so that no mask holds.

        Compiled functions would go on with what they were compiled with.
        """
        _ = self.wrapper.kernels
