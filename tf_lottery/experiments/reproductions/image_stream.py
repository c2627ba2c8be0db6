"""Data sets of JPEG images that do not fit into memory, as batches in a reproducible order."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tf_lottery import extras
from tf_lottery.experiments.batches import FollowsEpoch, check_batch_size
from tf_lottery.experiments.data.tfds import open_builder

# Mean and deviation of the pixels of ImageNet, in every channel of images in [0, 1].
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The share of rows and columns in the middle of an image that is evaluated: 224 of 256.
_CENTER = 0.875
_LEAST_AREA, _RATIOS = 0.08, (3 / 4, 4 / 3)
# Images in memory to draw the next one from.
_SHUFFLED = 16_384


@dataclasses.dataclass(frozen=True)
class ImageStream:
    """A data set of images for trainings that read it from disk: what `Data` is for arrays.

    Training images are cropped to 8 to 100% of their area and flipped at random, as for
    Inception (arXiv:1409.4842, section 6), and resized; images of the test are cropped in the
    middle. Both are normalized by the mean and the deviation of ImageNet.

    Args:
        name: String.
        image_size: Integer, rows and columns of the images.
        num_classes: Integer.
        num_train: Integer, the number of training images.
        read: Function of `"train"` or `"test"` that returns a `tf.data.Dataset` of pairs: the
            bytes of a JPEG file, and an integer label.
        changed: Dict of what else decides the result, for the settings of a run. Defaults to
            `None`: nothing.
    """

    name: str
    image_size: int
    num_classes: int
    num_train: int
    read: Callable
    changed: dict | None = None
    vocabulary = None
    validation = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return (self.image_size, self.image_size, 3)

    @property
    def settings(self) -> dict[str, Any]:
        """Dict of what decides the inputs, for the settings of a run."""
        return {"dataset": self.name, "image_size": self.image_size, **(self.changed or {})}

    @property
    def test(self) -> tuple:
        """Tuple of a `tf.data.Dataset` of batches, with all examples of the test."""
        images = self.read("test").map(self._evaluated, num_parallel_calls=-1)
        return (images.batch(128).prefetch(-1),)

    def batches(self, batch_size: int, steps_per_epoch=None, seed: int = 0, augment: tuple = ()):
        """Returns the `StreamBatches` of a training.

        Args:
            batch_size: Integer > 0.
            steps_per_epoch: Integer > 0. Defaults to `None`: all full batches of one pass.
            seed: Integer. Defaults to `0`.
            augment: Tuple, which must be empty: images are cropped and flipped in any case.

        Raises:
            ValueError: If an argument is outside its range.
        """
        if augment:
            raise ValueError(
                "Argument `augment` must be (): the images of this data set are cropped and "
                f"flipped in any case. Received: augment={augment}"
            )
        check_batch_size(batch_size, self.num_train)
        return StreamBatches(self, batch_size, steps_per_epoch, seed)

    def augmented(self, content, label, seed):
        """Returns a training image, changed at random, and its label.

        Args:
            content: Tensor, the bytes of a JPEG file.
            label: Tensor.
            seed: Tensor of two integers.
        """
        import tensorflow as tf

        # With one seed, the same number would decide the shape of a crop and whether it is flipped.
        of_crop, of_flip = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(content),
            tf.zeros((1, 0, 4)),
            of_crop,
            min_object_covered=0.0,
            aspect_ratio_range=_RATIOS,
            area_range=(_LEAST_AREA, 1.0),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        image = self._window(content, begin[0], begin[1], size[0], size[1])
        return tf.image.stateless_random_flip_left_right(image, of_flip), label

    def _evaluated(self, content, label):
        import tensorflow as tf

        shape = tf.io.extract_jpeg_shape(content)
        side = tf.cast(_CENTER * tf.cast(tf.minimum(shape[0], shape[1]), "float32"), "int32")
        begin = (shape[:2] - side) // 2
        return self._window(content, begin[0], begin[1], side, side), label

    def _window(self, content, *window):
        """Returns a part of an image, resized and normalized."""
        import tensorflow as tf

        image = tf.image.decode_and_crop_jpeg(content, tf.stack(window), channels=3)
        image = tf.image.resize(image, (self.image_size, self.image_size)) / 255.0
        image = (image - _MEAN) / _DEVIATION
        return tf.ensure_shape(image, self.input_shape)


class StreamBatches(FollowsEpoch):
    """Batches of an `ImageStream`, whose order and changes depend on seed and epoch only.

    A resumed training thus sees the same batches as one that was not interrupted. Images are
    drawn from the next 16,384 of their files.

    Args:
        stream: An `ImageStream`.
        batch_size: Integer > 0.
        steps_per_epoch: Integer > 0, at most those of a pass, or `None`: all full batches of a
            pass.
        seed: Integer.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(self, stream, batch_size, steps_per_epoch, seed):
        full = stream.num_train // batch_size
        steps = full if steps_per_epoch is None else steps_per_epoch
        if not 0 < steps <= full:
            raise ValueError(
                f"Argument `steps_per_epoch` must be between 1 and the {full} batches of a pass. "
                f"Received: steps_per_epoch={steps_per_epoch}"
            )
        self._stream, self._batch_size = stream, batch_size
        self._steps, self._seed = steps, seed

    def __len__(self):
        return self._steps

    def for_fit(self):
        """Returns a `tf.data.Dataset` that has the batches of the current epoch when it starts."""
        import tensorflow as tf

        def current(_):
            return tf.ensure_shape(tf.numpy_function(lambda: np.int64(self.epoch), [], "int64"), ())

        examples = self._stream.read("train")
        epoch = tf.data.Dataset.from_tensors(0).map(current)
        batches = epoch.flat_map(lambda number: self._batches_of(examples, number))
        return batches.apply(tf.data.experimental.assert_cardinality(self._steps)).prefetch(-1)

    def _batches_of(self, examples, epoch):
        import tensorflow as tf

        # Not their sum: epochs of one seed would be those of another one.
        seed = tf.stack([tf.constant(self._seed, "int64"), epoch])

        def change(index, example):
            of_image = tf.random.experimental.stateless_fold_in(seed, index)
            return self._stream.augmented(*example, seed=of_image)

        count = min(_SHUFFLED, self._stream.num_train)
        order = tf.random.stateless_uniform((), seed, maxval=2**31 - 1, dtype="int64")
        shuffled = examples.shuffle(count, seed=order)
        changed = shuffled.enumerate().map(change, num_parallel_calls=-1)
        return changed.batch(self._batch_size, drop_remainder=True).take(self._steps)


def tfds_stream(
    name: str, image_size: int, data_dir: str | None = None, download: bool = False
) -> ImageStream:
    """Returns a data set of TensorFlow Datasets, such as `"imagenet2012"`.

    Its validation images are the test, as in papers on ImageNet.

    Args:
        name: String.
        image_size: Integer, rows and columns of the images.
        data_dir: Folder of TensorFlow Datasets. Defaults to `None`: its usual one.
        download: Whether TensorFlow Datasets may download what is missing. ImageNet has to be
            fetched by hand in any case. Defaults to `False`.

    Raises:
        OSError: If the data set is missing.
        ImportError: If TensorFlow Datasets is not installed.
    """
    builder = open_builder(name, data_dir, download)
    import tensorflow_datasets as tfds

    splits = builder.info.splits
    names = {"train": "train", "test": "validation" if "validation" in splits else "test"}

    def read(part):
        found = builder.as_dataset(
            split=names[part], decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False
        )
        return found.map(lambda example: (example["image"], example["label"]))

    classes = builder.info.features["label"].num_classes
    return ImageStream(name, image_size, classes, splits["train"].num_examples, read)


def made_stream(
    name: str, image_size: int, num_classes: int, count: int, seed: int = 0
) -> ImageStream:
    """Returns made images in place of a data set, to try a recipe without its data.

    Args:
        name: String, the data set whose place they take.
        image_size: Integer, rows and columns of the images that the network sees.
        num_classes: Integer.
        count: Integer, the number of images.
        seed: Integer. Defaults to `0`.

    Example:

    >>> stream = made_stream("imagenet2012", image_size=8, num_classes=10, count=4)
    >>> stream.input_shape, len(stream.batches(batch_size=2))
    ((8, 8, 3), 2)
    """
    extras.require("tensorflow", "tensorflow")

    def read(part):
        import tensorflow as tf

        rng = np.random.default_rng([seed, part == "test"])
        side = image_size + image_size // 4
        pixels = rng.integers(0, 256, (count, side, side, 3), dtype="uint8")
        files = [tf.io.encode_jpeg(image).numpy() for image in pixels]
        return tf.data.Dataset.from_tensor_slices((files, rng.integers(0, num_classes, count)))

    return ImageStream(name, image_size, num_classes, count, read, {"made_images": count})
