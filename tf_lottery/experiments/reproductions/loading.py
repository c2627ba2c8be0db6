"""The data of a reproduction: the paper's, or made examples of the same shapes."""

import pathlib

import numpy as np

from tf_lottery.experiments import data as data_sets
from tf_lottery.experiments.data import TEXT_LENGTH, Data
from tf_lottery.experiments.reproductions.image_stream import made_stream, tfds_stream

# Rows and columns of the images of data sets that fit into memory.
_SIZES = {"cifar100": 32, "tiny_imagenet": 64}
_TEXT_FILES = {"train": "wiki.train.tokens", "validation": "wiki.valid.tokens"}
_TEXT_FILES["test"] = "wiki.test.tokens"
_BYTES = "".join(map(chr, range(256)))
# JAX shares a batch between accelerators only if each gets equally many examples.
_SHARES = 8


def load(reproduction, data_dir=None, download=False, seed=0):
    """Returns the data of a paper.

    Args:
        reproduction: A `Reproduction`.
        data_dir: Folder of TensorFlow Datasets; for WikiText-103 that of its three text files,
            for TinyImageNet that of its images. Defaults to `None`: the usual one.
        download: Whether TensorFlow Datasets may download what is missing. Defaults to `False`.
        seed: Integer, decides which images are held out. Defaults to `0`.

    Returns:
        `Data` or an `ImageStream`.

    Raises:
        OSError: If the data are missing.

    Example:

    >>> from tf_lottery.experiments.reproductions import REPRODUCTIONS
    >>> for part in ("train", "valid", "test"):
    ...     size = pathlib.Path(f"wiki.{part}.tokens").write_text("a" * 2000)
    >>> load(REPRODUCTIONS["gru-rigl-75-wikitext103"], ".").input_shape
    (100,)
    """
    if reproduction.dataset == "wikitext-103":
        return wikitext(data_dir)
    if reproduction.image_size is not None:
        return tfds_stream(reproduction.dataset, reproduction.image_size, data_dir, download)
    return data_sets.load(reproduction.dataset, data_dir, download, seed, normalize=True)


def make(reproduction, count, image_size=None, seed=0):
    """Returns random examples in place of the data of a paper, to try its training.

    Args:
        reproduction: A `Reproduction`.
        count: Integer, the number of examples in every part.
        image_size: Integer, rows and columns of the images. Defaults to `None`: those of the
            paper.
        seed: Integer. Defaults to `0`.

    Returns:
        `Data` or an `ImageStream`.

    Example:

    >>> from tf_lottery.experiments.reproductions import REPRODUCTIONS
    >>> make(REPRODUCTIONS["gru-rigl-75-wikitext103"], count=4).input_shape
    (100,)
    """
    name, classes = f"made_{reproduction.dataset}", reproduction.num_classes
    if reproduction.image_size is not None:
        return made_stream(name, image_size or reproduction.image_size, classes, count, seed)
    rng = np.random.default_rng(seed)
    if reproduction.dataset == "wikitext-103":
        codes = rng.integers(0, classes, 3 * count * TEXT_LENGTH + 1).astype("uint8")
        x, y = _windows(codes)
    else:
        size = image_size or _SIZES[reproduction.dataset]
        x = rng.normal(size=(3 * count, size, size, 3)).astype("float32")
        # So that the number of classes can be seen.
        y = np.resize(np.arange(classes)[::-1], 3 * count).astype("int32")
    parts = [(x[i::3], y[i::3]) for i in range(3)]
    return Data(name, *parts, _BYTES if reproduction.dataset == "wikitext-103" else None)


def wikitext(folder):
    """Returns WikiText-103 (arXiv:1609.07843) as windows of 100 bytes.

    Args:
        folder: The folder of `wiki.train.tokens`, `wiki.valid.tokens` and `wiki.test.tokens`. They
            are read from disk as training needs them. Of the last two up to seven windows are left
            out, so that two, four or eight accelerators can share every batch.

    Raises:
        OSError: If a file is missing.
    """
    parts = []
    for name in _TEXT_FILES.values():
        path = pathlib.Path(folder or ".") / name
        if not path.exists():
            raise FileNotFoundError(
                f"Argument `data_dir` must be the folder of {sorted(_TEXT_FILES.values())}. "
                f"Received: {str(folder)!r} without {name!r}"
            )
        parts.append(_windows(np.memmap(path, dtype="uint8", mode="r")))
    train, *held_out = parts
    return Data("wikitext-103", train, *map(_shared, held_out), _BYTES)


def _shared(part):
    """Returns as many examples as accelerators can share, or all if there are too few."""
    count = len(part[1]) // _SHARES * _SHARES or len(part[1])
    return tuple(array[:count] for array in part)


def _windows(codes):
    """Returns windows of bytes, and the next byte at every position, without a copy."""
    count = (len(codes) - 1) // TEXT_LENGTH
    size = count * TEXT_LENGTH
    return tuple(codes[i : i + size].reshape(count, TEXT_LENGTH) for i in (0, 1))
