"""TinyImageNet, from the folder of its images."""

import os
import pathlib

import numpy as np

from tf_lottery.experiments.data.image_folder import read_files, read_images
from tf_lottery.experiments.data.parts import Data
from tf_lottery.experiments.data.sources import Reading
from tf_lottery.experiments.data.splits import hold_out

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_FOLDER, _LABELS = "tiny-imagenet-200", "val_annotations.txt"
_SHAPE = (64, 64, 3)
_READING = Reading(pixel_range=(0.0, 1.0))


def tiny_imagenet(folder: str | os.PathLike | None, seed: int = 0) -> Data:
    """Loads TinyImageNet: 110,000 labelled images of 64 by 64 pixels in 200 classes.

    The test that comes with it has no labels, so its validation images are the test here, and a
    tenth of the training images is held out. Loading takes up to 10 GB of memory.

    Args:
        folder: The folder `tiny-imagenet-200` out of the `.zip` file, or the one that holds it.
        seed: Integer, decides which training images are held out. Defaults to `0`.

    Returns:
        `Data` of images in [0, 1].

    Raises:
        OSError: If the folder is missing.
        ValueError: If an image is missing or cannot be read, or its class is not one of the
            training images', or the table of the classes is empty.
        ImportError: If Pillow is not installed.
    """
    root = _root(folder)
    [examples], classes = read_images(root / "train", _READING, _SHAPE)
    train, validation = hold_out(examples, len(examples[1]) // 10, seed)
    test = _read_test(root / "val", classes)
    return Data("tiny_imagenet", train, validation, test, classes=classes)


def _root(folder):
    """Returns the folder with the training images and the labels of the others."""
    if folder is not None:
        for root in (pathlib.Path(folder), pathlib.Path(folder) / _FOLDER):
            if (root / "train").is_dir() and (root / "val" / _LABELS).is_file():
                return root
    raise FileNotFoundError(
        f"Argument `data_dir` (--data-dir) must be the folder {_FOLDER} of {URL}, or the one that "
        f"holds it, with train/CLASS/images/*.JPEG and val/{_LABELS}. Received: {folder}"
    )


def _read_test(folder, classes):
    """Returns the images of a folder and their labels, which a table has after the file names."""
    rows = [line.split("\t") for line in (folder / _LABELS).read_text().splitlines()]
    if not rows:
        raise ValueError(
            f"{_LABELS} must have a line for every image, with its name and its class. Received: "
            f"an empty file {str(folder / _LABELS)!r}"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    if wrong := [row for row in rows if len(row) < 2 or row[1] not in numbers]:
        raise ValueError(
            f"Every line of {_LABELS} must have the name of an image and one of the "
            f"{len(classes)} classes in `train`. Received: {wrong[0]} in {str(folder)!r}"
        )
    x = read_files([folder / "images" / row[0] for row in rows], _READING, _SHAPE)
    return x, np.array([numbers[row[1]] for row in rows], "int32")
