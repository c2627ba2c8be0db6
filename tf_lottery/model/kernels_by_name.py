"""The kernels and masks of a sparse model, by the names of the kernels."""

import keras
import numpy as np

from tf_lottery.layers import Masked, matrix_shapes
from tf_lottery.sparsity import masks as mask_ops
from tf_lottery.sparsity.groups import Group
from tf_lottery.sparsity.patterns import Channel, Pattern


class KernelsByName:
    """Access to the kernels and masks of a sparse model by name.

    A subclass has the attribute `wrapper`, the `tf_lottery.layers.Masked` with the kernels.
    """

    wrapper: Masked

    @property
    def kernels(self) -> dict[str, keras.Variable]:
        """Dict of names to the variables that are pruned.

        A name is the path that the variable had when the model was made sparse.

        Raises:
            ValueError: If a layer has changed since then so that its mask has no effect.
        """
        return self._by_name(self.wrapper.kernels)

    @property
    def named_weights(self) -> dict[str, keras.Variable]:
        """Dict of names to all weights of the wrapped model; see `kernels`."""
        return self.wrapper.named_weights()

    def _by_name(self, values):
        return dict(zip(self.wrapper.keys, values, strict=True))

    @property
    def matrix_shapes(self) -> dict[str, tuple[int, int] | None]:
        """Dict of kernel names to (inputs, outputs), or `None` for kernels without a matrix.

        See `tf_lottery.layers.matrix_shapes`.
        """
        return self._by_name(matrix_shapes(self.wrapper.layer, self.wrapper.kernels))

    @property
    def groups(self) -> list[Group]:
        """List of the channel groups, with the pattern `"channel"`; otherwise empty.

        See `tf_lottery.sparsity.groups.Group`.
        """
        return self.wrapper.groups

    def kept_channels(self) -> dict[str, np.ndarray]:
        """Returns a dict of the names of groups to boolean arrays, true for channels that live."""
        return self.wrapper.kept_channels()

    def couples(self, pattern: Pattern | None = None) -> bool:
        """Returns whether a pattern prunes channels of several kernels together.

        Args:
            pattern: A `Pattern`. Defaults to `None`: that of the model.
        """
        pattern = self.wrapper.pattern if pattern is None else pattern
        return bool(self.groups) and isinstance(pattern, Channel)

    def prunable_names(self, pattern: Pattern | None = None) -> list[str]:
        """Returns the names of what has a sparsity of its own: channel groups, or else kernels.

        Args:
            pattern: A `Pattern`. Defaults to `None`: that of the model.
        """
        if self.couples(pattern):
            return [group.name for group in self.groups]
        return list(self.wrapper.keys)

    @property
    def density(self) -> float:
        """The fraction of weights that the masks keep, over all kernels."""
        return mask_ops.density(self.get_masks())

    @property
    def sparsity(self) -> float:
        """The fraction of weights that the masks prune, over all kernels."""
        return 1.0 - self.density

    def get_masks(self) -> dict[str, np.ndarray]:
        """Returns a dict of kernel names to boolean arrays, True meaning kept."""
        return self._by_name(self.wrapper.get_masks())

    def to_matrices(
        self, arrays: dict[str, np.ndarray], pattern: Pattern | None = None
    ) -> dict[str, np.ndarray]:
        """Reshapes arrays to matrices (inputs, outputs), to which patterns apply.

        Args:
            arrays: Dict of kernel names to NumPy arrays with the shapes of the kernels.
            pattern: A `Pattern`. If it prunes channels of several kernels together, there is one
                matrix for each channel group, with the weights of all its kernels, and `arrays`
                must have all kernels. Defaults to `None`: one matrix for each kernel.

        Returns:
            Dict of the same names, or of the names of groups, to matrices. Arrays of kernels
            without a matrix, to which no structured pattern applies, keep their shapes.

        Example:

        >>> matrices = convolutional.to_matrices(convolutional.get_kernels())
        >>> matrices["small/stem/kernel"].shape
        (27, 4)
        """
        if pattern is not None and self.couples(pattern):
            return {group.name: group.as_matrix(arrays) for group in self.groups}
        shapes = self.matrix_shapes
        return {name: array.reshape(shapes[name] or array.shape) for name, array in arrays.items()}

    def from_matrices(
        self, arrays: dict[str, np.ndarray], pattern: Pattern | None = None
    ) -> dict[str, np.ndarray]:
        """Reshapes the matrices of `to_matrices` to the shapes of the kernels.

        Args:
            arrays: Dict of kernel names to NumPy arrays, or of the names of some groups to masks.
            pattern: The `Pattern` that `to_matrices` got. Defaults to `None`.

        Returns:
            Dict of the same names, or of the names of all kernels, to arrays, as `set_masks`
            expects them.
        """
        kernels = self.kernels
        if pattern is None or not self.couples(pattern):
            return {name: array.reshape(kernels[name].shape) for name, array in arrays.items()}
        masks = {name: np.ones(kernel.shape, bool) for name, kernel in kernels.items()}
        full = dict(masks)
        for group in self.groups:
            if group.name in arrays:
                # A kernel whose axes belong to several groups keeps what all of them keep.
                for name, mask in group.from_matrix(arrays[group.name], full).items():
                    masks[name] = masks[name] & mask
        return masks

    def set_masks(self, masks: dict[str, np.ndarray]) -> None:
        """Sets masks and writes zeros into the pruned positions of the kernels.

        Args:
            masks: Dict of kernel names to boolean arrays. Other kernels keep their masks.

        Raises:
            ValueError: If a name is unknown, or an array is not boolean or has another shape.
                No mask is changed then.
        """
        before = self.get_masks()
        for path in masks:
            if path not in before:
                raise ValueError(
                    "Argument `masks` must have names of the model's kernels, "
                    f"{sorted(before)}. Received: {path!r}"
                )
        self.wrapper.set_masks(list({**before, **masks}.values()))

    def get_kernels(self) -> dict[str, np.ndarray]:
        """Returns a dict of kernel names to arrays, the effective values `kernel * mask`."""
        return self._by_name(self.wrapper.get_kernels())

    def apply_masks(self) -> None:
        """Writes the effective values into the kernels, and settles soft gates."""
        self.wrapper.apply_masks()

    def check_kernels(self) -> None:
        """Raises a `ValueError` if a layer has changed so that its mask has no effect.

        Functions that are already compiled would not notice the change.
        """
        _ = self.wrapper.kernels
