"""Batches whose order, and changes to images, depend on seed and epoch only."""

import keras
import numpy as np

from tf_lottery.checks import choice, positive_integer

AUGMENTATIONS = ("flip", "shift")


def check_augment(augment):
    """Returns the changes to images as a tuple.

    Args:
        augment: Tuple or list of names.

    Raises:
        ValueError: If a name is unknown.
    """
    if isinstance(augment, str):
        raise ValueError(
            f"Argument `augment` must be a tuple of names. Received: augment={augment!r}"
        )
    for name in augment:
        choice("augment", name, AUGMENTATIONS)
    return tuple(augment)


def check_length(epochs, steps_per_epoch, batch_size):
    """Raises a `ValueError` if a training has no epochs, steps or examples.

    Args:
        epochs: Integer.
        steps_per_epoch: Integer, or `None` for one pass through the data.
        batch_size: Integer.
    """
    positive_integer("epochs", epochs)
    positive_integer("batch_size", batch_size)
    if steps_per_epoch is not None:
        positive_integer("steps_per_epoch", steps_per_epoch)


def augmented(images, augment, rng):
    """Returns randomly changed copies of images, the usual augmentation of CIFAR-10.

    Args:
        images: Array of shape `(batch, rows, columns, channels)`.
        augment: Tuple of `"flip"`, left and right exchanged in half of the images, which suits
            photographs but not digits; and `"shift"`, by up to an eighth of the rows and
            columns in each direction, with zeros where pixels are missing: 4 of 32 pixels, as
            in arXiv:1512.03385, section 4.2.
        rng: `numpy.random.Generator`.

    Example:

    >>> images = np.arange(2.0).reshape(1, 1, 2, 1)
    >>> flips = [augmented(images, ("flip",), np.random.default_rng(i))[0, 0, 0, 0] for i in (0, 2)]
    >>> sorted(map(float, flips))
    [0.0, 1.0]
    """
    if "flip" in augment:
        chosen = rng.random(len(images)) < 0.5
        images = np.where(chosen[:, None, None, None], images[:, :, ::-1], images)
    return _shifted(images, rng) if "shift" in augment else images


def _shifted(images, rng):
    count, rows, columns, channels = images.shape
    down, right = max(1, rows // 8), max(1, columns // 8)
    margins = ((0, 0), (down, down), (right, right), (0, 0))
    padded = np.pad(images, margins)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), axis=(1, 2))
    starts = rng.integers(0, 2 * down + 1, count), rng.integers(0, 2 * right + 1, count)
    return np.moveaxis(windows[np.arange(count), *starts], 1, -1)


def check_batch_size(batch_size, num_examples):
    """Raises a `ValueError` if there are not as many examples as in a batch.

    Args:
        batch_size: Integer.
        num_examples: Integer.
    """
    if not 0 < batch_size <= num_examples:
        raise ValueError(
            f"Argument `batch_size` must be between 1 and the {num_examples} examples. "
            f"Received: batch_size={batch_size}"
        )


class FollowsEpoch:
    """Batches that depend on the epoch: a base class.

    Attributes:
        epoch: Integer, the current epoch.
    """

    epoch = 0

    def follow_epoch(self):
        """Returns the callback that tells the batches which epoch it is."""

        def on_epoch_begin(epoch, logs=None):
            self.epoch = epoch

        return keras.callbacks.LambdaCallback(on_epoch_begin=on_epoch_begin)


class ShuffledBatches(FollowsEpoch, keras.utils.PyDataset):
    """Batches of a shuffled data set, in an order that depends on seed and epoch only.

    A resumed training thus sees the same batches as one that was not interrupted. The data
    are shuffled anew for every pass, and the stream of passes is cut into epochs of
    `steps_per_epoch`. Pass `follow_epoch()` to `fit` as a callback, and `shuffle=False`,
    since Keras would shuffle the batches of an epoch again, at random.

    Args:
        x: Array of inputs, or nested arrays.
        y: Array of labels.
        batch_size: Integer > 0.
        steps_per_epoch: Integer > 0. Defaults to `None`: all full batches of one pass.
        seed: Integer. Defaults to `0`.
        augment: Tuple of changes to images, `"flip"` and `"shift"`; see `augmented`. Every
            pass changes them anew. Defaults to `()`: none.

    Raises:
        ValueError: If an argument is outside its range, or `augment` is given for inputs that
            are not images.

    Example:

    >>> batches = ShuffledBatches(x, y, batch_size=8)
    >>> follow = batches.follow_epoch()
    >>> history = dense.fit(batches, epochs=3, shuffle=False, callbacks=[follow], verbose=0)
    """

    def __init__(self, x, y, batch_size, steps_per_epoch=None, seed=0, augment=()):
        super().__init__()
        check_batch_size(batch_size, len(y))
        self.x, self.y = x, y
        self.batch_size = batch_size
        self.seed = seed
        self.augment = check_augment(augment)
        if self.augment and np.ndim(x) != 4:
            raise ValueError(
                "Argument `augment` must be () unless the inputs are images. "
                f"Received: augment={self.augment} with inputs of shape {np.shape(x)[1:]}"
            )
        self._steps_per_pass = len(y) // batch_size
        self._steps_per_epoch = steps_per_epoch or self._steps_per_pass
        self._orders = {}

    def __len__(self):
        return self._steps_per_epoch

    def __getitem__(self, index):
        number, step = divmod(self.epoch * self._steps_per_epoch + index, self._steps_per_pass)
        chosen = self._order(number)[step * self.batch_size : (step + 1) * self.batch_size]
        x = keras.tree.map_structure(lambda array: array[chosen], self.x)
        if self.augment:
            x = augmented(x, self.augment, np.random.default_rng([self.seed, number, step]))
        return x, self.y[chosen]

    def for_fit(self):
        """Returns what `fit` takes: the batches themselves."""
        return self

    def _order(self, number):
        if number not in self._orders:
            order = np.random.default_rng([self.seed, number]).permutation(len(self.y))
            self._orders = {number: order}
        return self._orders[number]
