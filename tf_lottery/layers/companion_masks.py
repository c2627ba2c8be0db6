"""The masks of weights that are pruned with a channel, but are no kernels."""

import keras

from tf_lottery import hosts
from tf_lottery.layers.part import Part
from tf_lottery.layers.products import zeroing_product
from tf_lottery.layers.variables import add_like


@keras.saving.register_keras_serializable("tf_lottery")
class CompanionMasks(Part):
    """Replaces the companions of pruned channels by zeros.

    Companions are biases, the scale and shift of normalization, and the moving mean of norms
    without scale. With them and the kernels at zero, what leaves the normalization of a pruned
    channel is exactly 0. The masks follow from those of the kernels: `Masked.apply_masks` sets
    them.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        masks: List of non-trainable boolean variables, one for every companion, initially all
            true.

    Example:

    >>> part = CompanionMasks()
    >>> part.create_companion_variables([keras.Variable(np.ones(3, "float32"), name="bias")])
    >>> part.keep([np.array([True, False, True])])
    >>> ops.convert_to_numpy(part.replace_companions([np.array([1.0, 2.0, 3.0])])[0]).tolist()
    [1.0, 0.0, 3.0]
    """

    kind = "masks"
    order = 0

    def __init__(self, **kwargs):
        super().__init__(**{"name": "companion_masks", **kwargs})
        self.masks = []

    def create_companion_variables(self, companions):
        """Creates a mask for every companion.

        Args:
            companions: List of Keras variables.
        """
        for i, companion in enumerate(companions):
            mask = add_like(self, companion, f"mask_{i}", "ones", dtype="bool", trainable=False)
            self.masks.append(mask)

    def replace_companions(self, values):
        """Returns the companions, with zeros for pruned channels.

        Args:
            values: List of tensors, one for every companion.
        """
        return [
            zeroing_product(value, mask.value)
            for value, mask in zip(values, self.masks, strict=True)
        ]

    def kept(self):
        """Returns the masks as a list of boolean arrays."""
        return [hosts.to_numpy(mask) for mask in self.masks]

    def keep(self, masks):
        """Sets the masks.

        Args:
            masks: List of boolean arrays, one for every companion.
        """
        for variable, mask in zip(self.masks, masks, strict=True):
            hosts.assign(variable, mask)
