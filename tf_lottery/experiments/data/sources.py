"""Reads the examples that a user names: files, folders, functions."""

import dataclasses
import os
import pathlib

import numpy as np

from tf_lottery.checks import nearest
from tf_lottery.experiments.data.class_names import numbered
from tf_lottery.experiments.data.csv_table import read_csv
from tf_lottery.experiments.data.functions import call_function, is_function
from tf_lottery.experiments.data.image_folder import read_images
from tf_lottery.experiments.data.numpy_files import read_numpy
from tf_lottery.experiments.data.tfds import read_tfds

KINDS = (
    ".npz with the arrays x and y, .npy (inputs alone), .csv, a folder of images by class, "
    "tfds:NAME, or MODULE:FUNCTION"
)


@dataclasses.dataclass(frozen=True)
class Source:
    """What a user's source holds.

    Args:
        parts: List of one to three tuples `(x, y, sample_weight)`: for training, validation and
            test. `y` and `sample_weight` may be `None`, and `x` nested arrays. With a test alone
            the validation is `None`.
        classes: Tuple of strings, the names of the classes in the order of their numbers.
            Defaults to `None`: the source has numbers.
    """

    parts: list
    classes: tuple | None = None


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a source is read; each kind of source uses what it needs.

    Args:
        label_column: String, the column of a table with the labels. Defaults to `None`: the one
            named `label`, else the last.
        pixel_range: Tuple of the numbers that black and white get. Defaults to `(0.0, 255.0)`, as
            `keras.utils.image_dataset_from_directory` does.
        image_size: Integer, the rows and columns that images of other sizes are scaled to, unless
            the model says so. Defaults to `None`.
        data_dir: Folder of TensorFlow Datasets. Defaults to `None`: its usual one.
        download: Whether TensorFlow Datasets may download. Defaults to `False`.

    Example:

    >>> Reading(pixel_range=(0.0, 1.0)).pixel_range
    (0.0, 1.0)
    """

    label_column: str | None = None
    pixel_range: tuple[float, float] = (0.0, 255.0)
    image_size: int | None = None
    data_dir: str | None = None
    download: bool = False


def read_source(source, reading=None, *, input_shape=None, needs_labels=True, classes=None):
    """Reads the examples that a user names, into memory.

    Args:
        source: String: a `.npz` file with the arrays `x` and `y`, a `.npy` file of inputs, a
            `.csv` table with a column of labels, a folder with a folder of images for each class,
            `"tfds:NAME"`, or `"MODULE:FUNCTION"`, which is imported from the current folder or an
            installed package and called without arguments. It returns `(x, y)`, a data set of such
            batches, or a tuple of two or three of these for training, validation and test.
        reading: `Reading`. Defaults to `None`: its defaults.
        input_shape: Tuple, the shape that the model takes, for the size and the channels of
            images. Defaults to `None`: images have one size.
        needs_labels: Whether there must be labels. Defaults to `True`.
        classes: Tuple of strings, the names of the classes, for a source that goes with another
            one. Defaults to `None`: those that are found, sorted.

    Returns:
        `Source`.

    Raises:
        ValueError: If the source is of another kind, damaged, or lacks what is needed.
        OSError: If there is no such file.
        ImportError: If a package that reads the source is not installed.

    Example:

    >>> np.savez("train.npz", x=x, y=y)
    >>> read_source("train.npz").parts[0][0].shape
    (24, 8)
    """
    reading = Reading() if reading is None else reading
    source = os.fspath(source)
    path = pathlib.Path(source)
    suffix = path.suffix.lower()
    if source.startswith("tfds:"):
        parts, names = read_tfds(source.removeprefix("tfds:"), reading, input_shape)
        found = Source([part and (*part, None) for part in parts], names)
    elif path.is_dir():
        parts, names = read_images(path, reading, input_shape, classes)
        found = Source([part and (*part, None) for part in parts], names)
    elif is_function(source) and not path.exists():
        found = Source(call_function(source))
    elif not path.exists():
        raise FileNotFoundError(_missing(path))
    elif suffix in (".npz", ".npy"):
        found = Source([read_numpy(path)])
    elif suffix in (".csv", ".tsv"):
        width = input_shape[0] if input_shape and len(input_shape) == 1 else None
        x, y, names = read_csv(path, reading.label_column, needs_labels, classes, width)
        found = Source([(x, y, None)], names)
    else:
        raise ValueError(f"DATA must be one of: {KINDS}. Received: {source!r}")
    found = _with_numbers(found, classes)
    if needs_labels and any(y is None for _, y, _ in filter(None, found.parts)):
        raise ValueError(
            f"DATA must have labels: {KINDS}. Received: {source!r}, which has inputs alone"
        )
    return found


def _with_numbers(found, classes):
    """Returns a `Source` whose labels are no names."""
    parts, names = [], found.classes or classes
    for part in found.parts:
        if part is None:
            parts.append(None)
            continue
        x, y, weights = part
        if y is not None and np.asarray(y).dtype.kind in "USO":
            y, names = numbered(y, names)
        parts.append((x, y, weights))
    return Source(parts, names)


def _missing(path):
    """Returns the message about a file that is not there, with names that are similar."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        names = []
    near = nearest(path.name, names)
    meant = f"; did you mean {str(path.parent / near[0])!r}?" if near else "."
    return f"DATA must be a file or folder that is there{meant} Received: {str(path)!r}"
