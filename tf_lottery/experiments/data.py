"""Data sets as arrays."""

import dataclasses
from typing import Any, Self

import numpy as np

from tf_lottery import extras
from tf_lottery.checks import positive_integer
from tf_lottery.experiments import text

IMAGES = ("digits", "mnist", "cifar10")
DATASETS = (*IMAGES, "tiny_shakespeare")
TEXT_LENGTH = 100


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set in three parts, each a tuple of inputs and integer labels.

    Inputs are images in [0, 1] with one label each, or windows of a text, as integers, with
    one label for every character: the next character.

    Args:
        name: The name of the data set, as in `load`.
        train: Tuple of arrays.
        validation: Tuple of arrays, held out from the training examples.
        test: Tuple of arrays.
        vocabulary: String, the character that every integer of a text stands for. Defaults to
            `None`: images.
        image_size: Integer, the rows and columns that images were reduced to. Defaults to
            `None`: those of the data set.
        normalization: Tuple of the mean and the standard deviation of every channel that were
            removed from the images. Defaults to `None`: images in [0, 1].
    """

    name: str
    train: tuple
    validation: tuple
    test: tuple
    vocabulary: str | None = None
    image_size: int | None = None
    normalization: tuple | None = None

    @property
    def input_shape(self):
        """The shape of one image or window."""
        return self.train[0].shape[1:]

    @property
    def num_classes(self):
        """The number of classes, which are the characters of a text."""
        return len(self.vocabulary) if self.vocabulary else int(self.train[1].max()) + 1

    @property
    def settings(self) -> dict[str, Any]:
        """Dict of the arguments of `load` that decide the inputs, for the settings of a run."""
        return input_settings(self.name, self.image_size, self.normalization is not None)

    def resized(self, size: int) -> Self:
        """Returns the data with smaller square images, whose pixels are means of several.

        Args:
            size: Integer > 0, the new number of rows and columns, which must divide the old one.

        Raises:
            ValueError: If the inputs are texts or cannot be divided.
        """
        positive_integer("size", size)
        shape = self.input_shape
        if self.vocabulary or shape[0] != shape[1] or shape[0] % size:
            raise ValueError(
                "Argument `size` must divide the rows and columns of square images. "
                f"Received: size={size} for {self.name!r}, inputs of shape {shape}"
            )
        return self._with_images(lambda x: _block_means(x, size), image_size=size)

    def normalized(self) -> Self:
        """Returns the data with images of mean 0 and standard deviation 1 in every channel.

        Both are those of the training examples, and are removed from all images. A network
        that is trained with such inputs needs them later, too: `normalization` has the numbers.

        Raises:
            ValueError: If the inputs are texts, or normalized already.
        """
        if self.vocabulary or self.normalization is not None:
            raise ValueError(
                "Argument `normalize` needs images that are not normalized yet. "
                f"Received: {self.settings}"
            )
        pixels = self.train[0]
        # In float64, since a sum of millions of float32 numbers is inexact.
        mean = pixels.mean((0, 1, 2), dtype="float64")
        deviation = np.maximum(pixels.std((0, 1, 2), dtype="float64"), 1e-7)
        shift, scale = (array.astype("float32") for array in (mean, 1.0 / deviation))
        numbers = tuple(mean.tolist()), tuple(deviation.tolist())
        return self._with_images(lambda x: (x - shift) * scale, normalization=numbers)

    def _with_images(self, change, **fields):
        parts = ("train", "validation", "test")
        changed = {p: (change(getattr(self, p)[0]), getattr(self, p)[1]) for p in parts}
        return dataclasses.replace(self, **changed, **fields)


def input_settings(name, image_size=None, normalize=False):
    """Returns the `Data.settings` of a data set that is not loaded yet.

    Args:
        name: String; see `load`.
        image_size: Integer; see `load`. Defaults to `None`.
        normalize: Boolean; see `load`. Defaults to `False`.

    Example:

    >>> input_settings("digits", image_size=4)
    {'dataset': 'digits', 'image_size': 4}
    """
    size = {} if image_size is None else {"image_size": image_size}
    return {"dataset": name, **size, **({"normalize": True} if normalize else {})}


def load(name, data_dir=None, download=False, seed=0, *, image_size=None, normalize=False):
    """Loads a data set.

    Args:
        name: `"digits"`, the 1,797 handwritten digits of 8 by 8 pixels that come with
            scikit-learn; `"mnist"`, `"cifar10"` or `"tiny_shakespeare"`, a million
            characters in windows of 100, through TensorFlow Datasets.
        data_dir: Folder of TensorFlow Datasets. Defaults to `None`: its usual one.
        download: Whether TensorFlow Datasets may download what is missing. Defaults to
            `False`.
        seed: Integer, decides which training images are held out. Defaults to `0`.
        image_size: Integer, a divisor of the images' rows and columns, to which they are
            reduced: a step of a convolutional network at 16 of CIFAR-10's 32 pixels takes a
            quarter of the time. Defaults to `None`: all pixels.
        normalize: Whether images get mean 0 and standard deviation 1 in every channel, as in
            the papers' code; see `Data.normalized`. Defaults to `False`: pixels in [0, 1].

    Returns:
        `Data`, with 5,000 validation examples (300 of the digits; for the text, the validation
        split of TensorFlow Datasets).

    Raises:
        ValueError: If `name` is unknown, or the inputs cannot be resized or normalized.
        OSError: If the data set is missing.

    Example:

    >>> digits = load("digits", image_size=4, normalize=True)
    >>> digits.input_shape, abs(float(digits.train[0].mean())) < 1e-5
    ((4, 4, 1), True)
    """
    if name not in DATASETS:
        raise ValueError(f"Argument `name` must be one of {DATASETS}. Received: {name!r}")
    data = _load(name, data_dir, download, seed)
    if image_size is not None:
        data = data.resized(image_size)
    return data.normalized() if normalize else data


def _load(name, data_dir, download, seed):
    if name == "tiny_shakespeare":
        return _tiny_shakespeare(data_dir, download)
    if name == "digits":
        x, y = _digits()
        train, test, held_out = (x[:-300], y[:-300]), (x[-300:], y[-300:]), 300
    else:
        train, test = _images(name, data_dir, download)
        held_out = 5000
    order = np.random.default_rng(seed).permutation(len(train[1]))
    validation = tuple(array[order[:held_out]] for array in train)
    return Data(name, tuple(array[order[held_out:]] for array in train), validation, test)


def _block_means(images, size):
    """Returns images of `size` rows and columns, whose pixels are means of blocks of pixels."""
    count, rows, _, channels = images.shape
    factor = rows // size
    return images.reshape(count, size, factor, size, factor, channels).mean((2, 4))


def _digits():
    extras.require("experiments", "sklearn")
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return (pixels.reshape(-1, 8, 8, 1) / 16.0).astype("float32"), labels.astype("int32")


def _images(name, data_dir, download):
    parts = _tfds(name, ["train", "test"], data_dir, download, as_supervised=True)
    arrays = [tuple(map(np.asarray, part)) for part in parts]
    return [((x / np.float32(255)).astype("float32"), y.astype("int32")) for x, y in arrays]


def _tiny_shakespeare(data_dir, download):
    splits = ["train", "validation", "test"]
    parts = _tfds("tiny_shakespeare", splits, data_dir, download)
    texts = [part["text"][0].decode() for part in parts]
    vocabulary = text.vocabulary_of(texts[0])
    arrays = [text.windows(part, vocabulary, TEXT_LENGTH) for part in texts]
    return Data("tiny_shakespeare", *arrays, vocabulary)


def _tfds(name, splits, data_dir, download, **kwargs):
    """Returns the complete splits of a data set as NumPy arrays."""
    extras.require("experiments", "tensorflow_datasets", "tensorflow")
    import tensorflow_datasets as tfds

    try:
        parts = tfds.load(
            name, split=splits, data_dir=data_dir, download=download, batch_size=-1, **kwargs
        )
    except (AssertionError, tfds.core.DatasetNotFoundError) as error:
        where = "the usual folder" if data_dir is None else str(data_dir)
        raise FileNotFoundError(
            f"Argument `data_dir` must be a folder of TensorFlow Datasets that holds {name!r}; "
            f"`download=True` (--download) fetches it. Received: {where}"
        ) from error
    return [tfds.as_numpy(part) for part in parts]
