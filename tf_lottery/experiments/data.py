"""Data sets as arrays, and batches whose order depends on seed and epoch only."""

import dataclasses

import keras
import numpy as np

from tf_lottery import extras
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
        name: The name of the data set.
        train: Tuple of arrays.
        validation: Tuple of arrays, held out from the training examples.
        test: Tuple of arrays.
        vocabulary: String, the character that every integer of a text stands for. Defaults to
            `None`: images.
    """

    name: str
    train: tuple
    validation: tuple
    test: tuple
    vocabulary: str | None = None

    @property
    def input_shape(self):
        """The shape of one image or window."""
        return self.train[0].shape[1:]

    @property
    def num_classes(self):
        """The number of classes, which are the characters of a text."""
        return len(self.vocabulary) if self.vocabulary else int(self.train[1].max()) + 1


def load(name, data_dir=None, download=False, seed=0):
    """Loads a data set.

    Args:
        name: `"digits"`, the 1,797 handwritten digits of 8 by 8 pixels that come with
            scikit-learn; `"mnist"`, `"cifar10"` or `"tiny_shakespeare"`, a million
            characters in windows of 100, through TensorFlow Datasets.
        data_dir: Folder of TensorFlow Datasets. Defaults to `None`: its usual one.
        download: Whether TensorFlow Datasets may download what is missing. Defaults to
            `False`.
        seed: Integer, decides which training images are held out. Defaults to `0`.

    Returns:
        `Data`, with 5,000 validation examples (300 of the digits; for the text, the validation
        split of TensorFlow Datasets).

    Raises:
        ValueError: If `name` is unknown.
        OSError: If the data set is missing.
    """
    if name not in DATASETS:
        raise ValueError(f"Argument `name` must be one of {DATASETS}. Received: {name!r}")
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


class ShuffledBatches(keras.utils.PyDataset):
    """Batches of a shuffled data set, in an order that depends on seed and epoch only.

    A resumed training thus sees the same batches as one that was not interrupted. The data
    are shuffled anew for every pass, and the stream of passes is cut into epochs of
    `steps_per_epoch`. Pass `follow_epoch()` to `fit` as a callback, and `shuffle=False`,
    since Keras would shuffle the batches of an epoch again, at random.

    Args:
        x: Array of inputs.
        y: Array of labels.
        batch_size: Integer > 0.
        steps_per_epoch: Integer > 0. Defaults to `None`: all full batches of one pass.
        seed: Integer. Defaults to `0`.

    Example:

    >>> batches = ShuffledBatches(x, y, batch_size=8)
    >>> follow = batches.follow_epoch()
    >>> history = dense.fit(batches, epochs=3, shuffle=False, callbacks=[follow], verbose=0)
    """

    def __init__(self, x, y, batch_size, steps_per_epoch=None, seed=0):
        super().__init__()
        if not 0 < batch_size <= len(y):
            raise ValueError(
                f"Argument `batch_size` must be between 1 and the {len(y)} examples. "
                f"Received: batch_size={batch_size}"
            )
        self.x, self.y = x, y
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self._steps_per_pass = len(y) // batch_size
        self._steps_per_epoch = steps_per_epoch or self._steps_per_pass
        self._orders = {}

    def __len__(self):
        return self._steps_per_epoch

    def __getitem__(self, index):
        number, step = divmod(self.epoch * self._steps_per_epoch + index, self._steps_per_pass)
        chosen = self._order(number)[step * self.batch_size : (step + 1) * self.batch_size]
        return self.x[chosen], self.y[chosen]

    def follow_epoch(self):
        """Returns the callback that tells the batches which epoch it is."""

        def on_epoch_begin(epoch, logs=None):
            self.epoch = epoch

        return keras.callbacks.LambdaCallback(on_epoch_begin=on_epoch_begin)

    def _order(self, number):
        if number not in self._orders:
            order = np.random.default_rng([self.seed, number]).permutation(len(self.y))
            self._orders = {number: order}
        return self._orders[number]


def _digits():
    extras.require("experiments", "sklearn")
    from sklearn.datasets import load_digits

    digits = load_digits()
    return (digits.images[..., None] / 16.0).astype("float32"), digits.target.astype("int32")


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
