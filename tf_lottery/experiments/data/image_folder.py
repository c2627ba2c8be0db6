"""Reads images from a folder with a folder for each class."""

import pathlib

import keras
import numpy as np

from tf_lottery import extras

# As `keras.utils.image_dataset_from_directory`.
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_PARTS = (("train",), ("validation", "val"), ("test",))


def read_images(folder, reading, input_shape=None, classes=None):
    """Returns the images of a folder and the names of their classes.

    A folder in the folder is a class; classes are numbered in the order of their sorted names. If
    these are `train`, `validation` (or `val`) and `test`, they hold the classes of these parts.
    Without folders there are images without labels.

    Args:
        folder: The folder.
        reading: `Reading`.
        input_shape: Tuple of the rows, columns and channels that the model takes, to which images
            are scaled. Defaults to `None`: the channels of the first image, and the
            `image_size` of `reading` or the size that all have.
        classes: Tuple of strings, the names that the classes must have. Defaults to `None`.

    Returns:
        Tuple of a list of one to three tuples `(x, y)`, for training, validation and test, and of
        the names of the classes. The second is `None` if there is a test without a validation.
        Both are without labels if the images are in no folder.

    Raises:
        ValueError: If there are no images, they cannot be read, or differ in size.
        OSError: If the folder cannot be read.
        ImportError: If Pillow is not installed.
    """
    extras.require("experiments", "PIL")
    folder = pathlib.Path(folder)
    # Folders named in this way hold classes, not images.
    parts = [next((folder / n for n in names if (folder / n).is_dir()), None) for names in _PARTS]
    if parts[0] is None or not _folders(parts[0]):
        parts = [folder]
    while parts[-1] is None:
        parts.pop()
    found, form = [], _Form(input_shape, reading)
    for part in parts:
        if part is None:
            found.append(None)
            continue
        paths, y, classes = _labelled(part, classes)
        found.append((form.read(paths), y))
    return found, classes


def read_files(paths, reading, input_shape=None):
    """Returns an array of the images in files.

    Args:
        paths: List of paths.
        reading: `Reading`; see `read_images`, also for `input_shape`.
        input_shape: Tuple. Defaults to `None`.

    Raises:
        ValueError: If an image cannot be read, or they differ in size.
        ImportError: If Pillow is not installed.
    """
    extras.require("experiments", "PIL")
    return _Form(input_shape, reading).read(paths)


def _folders(folder):
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder, pattern):
    return sorted(p for p in folder.glob(pattern) if p.suffix.lower() in SUFFIXES)


def _labelled(folder, classes):
    """Returns the paths of images, their labels or `None`, and the names of the classes."""
    folders = _folders(folder)
    if not folders:
        if paths := _images(folder, "*"):
            return paths, None, None
        raise ValueError(_without_images(folder, "no images"))
    names = tuple(path.name for path in folders)
    if classes is not None and not set(names) <= set(classes):
        unknown = sorted(set(names) - set(classes))
        raise ValueError(
            f"DATA must have the classes {', '.join(map(repr, classes[:20]))}, those of the "
            f"training data. Received: {str(folder)!r} with {', '.join(map(repr, unknown[:5]))}"
        )
    classes = names if classes is None else classes
    by_class = {name: _images(folder / name, "**/*") for name in names}
    paths = [path for name in names for path in by_class[name]]
    if not paths:
        raise ValueError(_without_images(folder, f"no images in {', '.join(names[:5])}"))
    y = np.repeat([classes.index(n) for n in names], [len(by_class[n]) for n in names])
    return paths, y.astype("int32"), classes


def _without_images(folder, what):
    return (
        "DATA must be a folder with a folder of images for each class "
        f"({', '.join(s[1:] for s in SUFFIXES)}). Received: {str(folder)!r} with {what}"
    )


class _Form:
    """The size, channels and numbers that images are brought to.

    Args:
        input_shape: Tuple, or `None`; see `read_images`.
        reading: `Reading`.
    """

    def __init__(self, input_shape, reading):
        if input_shape is not None and len(input_shape) != 3:
            raise ValueError(
                "DATA must fit the model. Received: a folder of images for a model whose inputs "
                f"have the shape {input_shape}"
            )
        rows, columns, self.channels = input_shape or (None, None, None)
        self.size = (rows, columns) if rows and columns else None
        if self.size is None and reading.image_size:
            self.size = (reading.image_size,) * 2
        self.low, self.high = reading.pixel_range

    def read(self, paths):
        """Returns an array of the images in files."""
        first = _load(paths[0], None, None)
        if self.channels is None:
            self.channels = 1 if first.mode in ("1", "L") or first.mode.startswith("I") else 3
        if self.channels not in _MODES:
            raise ValueError(
                "DATA must fit the model. Received: a folder of images for a model of "
                f"{self.channels} channels, not 1, 3 or 4"
            )
        # Images without a given size have that of the first one.
        size = self.size or (first.height, first.width)
        images = np.empty((len(paths), *size, self.channels), "float32")
        for i, path in enumerate(paths):
            image = keras.utils.img_to_array(_load(path, _MODES[self.channels], self.size))
            if image.shape != images.shape[1:]:
                raise ValueError(
                    "DATA must have images of one size for a model that takes any; --image-size N "
                    f"scales them. Received: {str(paths[0])!r} of {_size(images[0])} pixels, "
                    f"{str(path)!r} of {_size(image)}"
                )
            images[i] = image
        self.size = size
        if (self.low, self.high) != (0.0, 255.0):
            images *= np.float32((self.high - self.low) / 255)
            images += np.float32(self.low)
        return images


def _size(image):
    return "x".join(map(str, image.shape[:2]))


def _load(path, mode, size):
    from PIL import Image

    try:
        with Image.open(path) as image:
            if mode is None:
                return image
            if image.mode.startswith("I"):
                # 16 bits, of which TensorFlow, too, takes the upper eight.
                image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
            image = image.convert(mode)
            size = image.size if size is None else size[::-1]
            return image.resize(size, Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(
            f"DATA must be images that can be read. Received: {str(path)!r}, which cannot be"
        ) from error
