"""Data sets of TensorFlow Datasets, as arrays."""

import os

import numpy as np

from tf_lottery import extras
from tf_lottery.checks import nearest

_SPLITS = ("train", "validation", "test")
_CATALOG = "https://www.tensorflow.org/datasets/catalog"


def read_splits(name, splits, data_dir, download, **kwargs):
    """Returns the complete splits of a data set as NumPy arrays.

    Args:
        name: String.
        splits: List of strings.
        data_dir: Folder of TensorFlow Datasets, or `None` for its usual one.
        download: Whether it may be downloaded.
        **kwargs: More arguments of `tfds.load`.

    Raises:
        OSError: If the data set is missing.
        ImportError: If TensorFlow Datasets is not installed.
    """
    builder = open_builder(name, data_dir, download)
    parts = builder.as_dataset(split=splits, batch_size=-1, **kwargs)
    return [_as_numpy(part) for part in parts]


def read_examples(name, splits, data_dir, download):
    """Yields, for every split, an iterator of the examples `(x, y)` as arrays, one by one.

    Args:
        name: String; see `read_splits`, also for the other arguments.
        splits: List of strings.
        data_dir: Folder, or `None`.
        download: Boolean.

    Raises:
        OSError: If the data set is missing.
        ImportError: If TensorFlow Datasets is not installed.
    """
    builder = open_builder(name, data_dir, download)
    for split in splits:
        yield iter(_as_numpy(builder.as_dataset(split=split, as_supervised=True)))


def read_tfds(name, reading, input_shape=None):
    """Returns the parts of a data set of inputs and labels, and the names of the classes.

    Args:
        name: String, which may have a version and a configuration, as in `tfds.load`.
        reading: `Reading`.
        input_shape: Tuple, the shape that the model takes, to which images are scaled. Defaults
            to `None`: images must have one size.

    Returns:
        Tuple of a list of one to three tuples `(x, y)`, for training, validation and test, and of
        the names of the classes or `None`. The second is `None` if there is a test alone.

    Raises:
        ValueError: If the data set has no inputs with class labels, or they differ in shape.
        OSError: If the data set is missing.
        ImportError: If TensorFlow Datasets is not installed.
    """
    builder = open_builder(name, reading.data_dir, reading.download)
    keys, splits = builder.info.supervised_keys, builder.info.splits
    if keys is None or len(keys) != 2 or "train" not in splits:
        raise ValueError(
            "DATA must be a data set of TensorFlow Datasets with inputs, labels and a split "
            f"`train`. Received: 'tfds:{name}' with the supervised keys {keys} and the splits "
            f"{', '.join(splits)}"
        )
    is_image = "Image" in type(builder.info.features[keys[0]]).__name__
    shape = (input_shape or ())[:2]
    if len(shape) < 2 or None in shape:
        shape = (reading.image_size,) * 2
    last = max(i for i, split in enumerate(_SPLITS) if split in splits)
    parts = []
    for split in _SPLITS[: last + 1]:
        if split not in splits:
            parts.append(None)
            continue
        examples = builder.as_dataset(split=split, as_supervised=True)
        if is_image and None not in shape:
            examples = examples.map(lambda x, y: (_resized(x, shape), y))
        parts.append(_stacked(name, _as_numpy(examples)))
    if is_image:
        low, high = reading.pixel_range
        scale = np.float32((high - low) / 255)
        parts = [
            part and (part[0].astype("float32") * scale + np.float32(low), part[1])
            for part in parts
        ]
    names = getattr(builder.info.features[keys[1]], "names", None)
    return parts, None if names is None else tuple(names)


def _resized(image, shape):
    import tensorflow as tf

    return image if tuple(image.shape[:2]) == tuple(shape) else tf.image.resize(image, shape)


def _stacked(name, examples):
    x, y = zip(*examples, strict=True)
    if len({np.shape(array) for array in x}) > 1 or np.asarray(x[0]).dtype.kind not in "biuf":
        shapes = sorted({np.shape(array) for array in x})
        raise ValueError(
            "DATA must have inputs of one shape, and of numbers; images are scaled to that of the "
            f"model, or with --image-size N. Received: 'tfds:{name}' with {shapes[:3]}"
        )
    return np.stack(x), np.asarray(y)


def _as_numpy(dataset):
    import tensorflow_datasets as tfds

    return tfds.as_numpy(dataset)


def open_builder(name, data_dir, download):
    """Returns the builder of a data set of TensorFlow Datasets that is there.

    Args:
        name: String; see `read_splits`, also for the other arguments.
        data_dir: Folder, or `None`.
        download: Boolean.

    Raises:
        OSError: If the data set is missing.
        ImportError: If TensorFlow Datasets is not installed.
    """
    extras.require("experiments", "tensorflow_datasets", "tensorflow")
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise FileNotFoundError(_unknown(name, data_dir)) from error
    if download:
        _download(name, builder, data_dir)
    elif not os.path.isdir(builder.data_dir):
        fetching = "`download=True` (--download) fetches it"
        raise FileNotFoundError(_missing(name, data_dir, fetching))
    return builder


def _download(name, builder, data_dir):
    try:
        builder.download_and_prepare()
    # What TensorFlow Datasets raises if files that nobody may pass on are not in its folder.
    except AssertionError as error:
        fetching = f"it has to be fetched by hand: {_CATALOG}/{name}"
        raise FileNotFoundError(_missing(name, data_dir, fetching)) from error


def _missing(name, data_dir, fetching):
    return (
        "Argument `data_dir` (--data-dir) must be a folder of TensorFlow Datasets that holds "
        f"{name!r}; {fetching}. Received: {_where(data_dir)}"
    )


def _where(data_dir):
    return "the usual folder" if data_dir is None else str(data_dir)


def _unknown(name, data_dir):
    """Returns the message about a name that TensorFlow Datasets does not know."""
    import tensorflow_datasets as tfds

    folder = os.path.expanduser(data_dir or os.path.join("~", "tensorflow_datasets"))
    there = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    near = nearest(name, list(dict.fromkeys([*there, *tfds.list_builders()])))
    meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return (
        "Argument `name` must be a data set that TensorFlow Datasets knows; in "
        f"{_where(data_dir)} are {', '.join(there) or 'none'}. Received: {name!r}{meant}"
    )
