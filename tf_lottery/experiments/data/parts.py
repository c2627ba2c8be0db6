"""A data set in three parts."""

import dataclasses
from typing import Any, Self

import keras
import numpy as np

from tf_lottery.checks import positive_integer
from tf_lottery.experiments.batches import ShuffledBatches


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set in three parts, each a tuple of inputs and integer labels.

    Inputs are images in [0, 1] with one label each; windows of a text, as integers, with
    one label for every character: the next character; or the user's own.

    Args:
        name: The name of the data set, as in `load`, or of the user's source.
        train: Tuple of arrays.
        validation: Tuple of arrays, held out from the training examples.
        test: Tuple of arrays.
        vocabulary: String, the character that every integer of a text stands for. Defaults to
            `None`: images.
        image_size: Integer, the rows and columns that images were reduced to. Defaults to
            `None`: those of the data set.
        normalization: Tuple of the mean and the standard deviation of every channel that were
            removed from the inputs. Defaults to `None`: inputs as they are.
        classes: Tuple of strings, the names of the classes in the order of their numbers.
            Defaults to `None`: no names.
        digest: String, a hash of the user's own data. Defaults to `None`: a data set of `load`.

    Example:

    >>> part = np.zeros((4, 8)), np.array([0, 1, 2, 1])
    >>> Data("mine", part, part, part).num_classes
    3
    """

    name: str
    train: tuple
    validation: tuple
    test: tuple
    vocabulary: str | None = None
    image_size: int | None = None
    normalization: tuple | None = None
    classes: tuple | None = None
    digest: str | None = None

    @property
    def input_shape(self):
        """The shape of one input.

        Raises:
            ValueError: If every example has several inputs.
        """
        if keras.tree.is_nested(self.train[0]):
            raise ValueError(
                "The data must have one input for this; a model of one's own (--model FILE) can "
                f"have several. Received: {len(keras.tree.flatten(self.train[0]))} in {self.name!r}"
            )
        return self.train[0].shape[1:]

    @property
    def num_classes(self):
        """The number of classes, which are the characters of a text."""
        if names := self.vocabulary or self.classes:
            return len(names)
        return max(int(y.max()) for _, y in (self.train, self.validation, self.test)) + 1

    @property
    def settings(self) -> dict[str, Any]:
        """Dict of what decides the inputs, for the settings of a run."""
        is_normalized = self.normalization is not None
        return input_settings(self.name, self.image_size, is_normalized, self.digest)

    def batches(self, batch_size, steps_per_epoch=None, seed=0, augment=()) -> ShuffledBatches:
        """Returns the training examples as batches; see `ShuffledBatches`."""
        x, y = self.train
        return ShuffledBatches(x, y, batch_size, steps_per_epoch, seed, augment)

    def resized(self, size: int) -> Self:
        """Returns the data with smaller square images, whose pixels are means of several.

        Args:
            size: Integer > 0, the new number of rows and columns, which must divide the old one.

        Raises:
            ValueError: If the inputs are texts or cannot be divided.
        """
        positive_integer("size", size)
        shape = self.input_shape
        is_square = not self.vocabulary and len(shape) == 3 and shape[0] == shape[1]
        if not is_square or shape[0] % size:
            raise ValueError(
                "Argument `size` must divide the rows and columns of square images. "
                f"Received: size={size} for {self.name!r}, inputs of shape {shape}"
            )
        return self._with_inputs(lambda x: _block_means(x, size), image_size=size)

    def normalized(self) -> Self:
        """Returns the data with inputs of mean 0 and standard deviation 1 in every channel.

        Channels are the last axis: those of images, or the columns of a table. Mean and deviation
        are those of the training examples, and are removed from all inputs. A network that is
        trained with such inputs needs them later, too: `normalization` has the numbers.

        Raises:
            ValueError: If the inputs are texts, several for every example, or normalized already.
        """
        axes = tuple(range(len(self.input_shape)))
        if self.vocabulary or self.normalization is not None:
            raise ValueError(
                "Argument `normalize` needs images, or other numbers, that are not normalized yet. "
                f"Received: {self.settings}"
            )
        pixels = self.train[0]
        # In float64, since a sum of millions of float32 numbers is inexact.
        mean = pixels.mean(axes, dtype="float64")
        deviation = np.maximum(pixels.std(axes, dtype="float64"), 1e-7)
        shift, scale = (array.astype("float32") for array in (mean, 1.0 / deviation))
        numbers = tuple(mean.tolist()), tuple(deviation.tolist())
        return self._with_inputs(lambda x: (x - shift) * scale, normalization=numbers)

    def _with_inputs(self, change, **fields):
        parts = ("train", "validation", "test")
        changed = {p: (change(getattr(self, p)[0]), getattr(self, p)[1]) for p in parts}
        return dataclasses.replace(self, **changed, **fields)


def input_settings(name, image_size=None, normalize=False, digest=None):
    """Returns the `Data.settings` of a data set that is not loaded yet.

    Args:
        name: String; see `load`.
        image_size: Integer; see `load`. Defaults to `None`.
        normalize: Boolean; see `load`. Defaults to `False`.
        digest: String, the hash of the user's own data. Defaults to `None`: a data set of `load`.

    Example:

    >>> input_settings("digits", image_size=4)
    {'dataset': 'digits', 'image_size': 4}
    """
    size = {} if image_size is None else {"image_size": image_size}
    origin = {"dataset": name} if digest is None else {"data": name, "data_digest": digest}
    return {**origin, **size, **({"normalize": True} if normalize else {})}


def _block_means(images, size):
    """Returns images of `size` rows and columns, whose pixels are means of blocks of pixels."""
    count, rows, _, channels = images.shape
    factor = rows // size
    return images.reshape(count, size, factor, size, factor, channels).mean((2, 4))
