"""Data sets from files on this machine, for networks on real tasks."""

import gzip
import os
import pathlib
import zlib

import numpy as np

from tf_lottery.experiments.data.parts import Data
from tf_lottery.experiments.data.splits import hold_out

WINDOW, STRIDE = 128, 64
_HELD_OUT = 5000


def fashion_mnist(folder: str | os.PathLike, seed: int = 0) -> Data:
    """Loads Fashion-MNIST (arXiv:1708.07747) from its four IDX files.

    Args:
        folder: The folder of the `.gz` files, such as `/usr/share/datasets/fashion-mnist` of
            Debian's package `dataset-fashion-mnist`.
        seed: Integer, decides which training images are held out. Defaults to `0`.

    Returns:
        `Data` of images of 28 by 28 pixels, with 5,000 validation examples.

    Raises:
        OSError: If a file is missing.
        ValueError: If it is no IDX file.
    """
    folder = pathlib.Path(folder)
    parts = {}
    for part, name in (("train", "train"), ("test", "t10k")):
        images = read_idx(folder / f"{name}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{name}-labels-idx1-ubyte.gz")
        parts[part] = (images[..., None] / np.float32(255), labels.astype("int32"))
    train, validation = hold_out(parts["train"], _HELD_OUT, seed)
    return Data("fashion_mnist", train, validation, parts["test"])


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """Returns the array of bytes in an IDX file, the format of MNIST.

    Args:
        path: The file, compressed by gzip.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is no IDX file of bytes.

    Example:

    >>> with gzip.open("labels.gz", "wb") as file:
    ...     size = file.write(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    >>> read_idx("labels.gz").tolist()
    [7, 9]
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error):
        content = b""
    rank = content[3] if content[:3] == b"\0\0\x08" else 0
    shape = np.frombuffer(content, ">i4", rank, 4) if len(content) >= 4 + 4 * rank else ()
    values = np.frombuffer(content, "uint8", offset=4 + 4 * rank) if rank else np.zeros(0)
    if not rank or values.size != np.prod(shape):
        raise ValueError(f"Argument `path` must be an IDX file of bytes. Received: {str(path)!r}")
    return values.reshape(shape)


def gestures(path: str | os.PathLike, *, validation: tuple = (9,), test: tuple = (4, 10)) -> Data:
    """Loads the smartwatch gestures of the package `seglearn`: 7 exercises by 10 subjects.

    Six axes of acceleration and rotation at 50 Hz, cut into windows of 128 steps that overlap by a
    half, with mean 0 and standard deviation 1 in every axis. Subjects are held out completely, so
    that the accuracy is that for a new wearer.

    Args:
        path: The file `seglearn/data/watch_dataset.npy` of the package. It holds a pickle, which
            could run code: take it from the package alone.
        validation: Tuple of the numbers of subjects, from 1 to 10. Defaults to `(9,)`.
        test: Tuple of the numbers of other subjects. Defaults to `(4, 10)`.

    Returns:
        `Data` of windows of shape `(128, 6)`.

    Raises:
        OSError: If there is no such file.
        ValueError: If a subject is in two parts.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> series = [rng.normal(size=(192, 6)) for subject in range(10)]
    >>> content = {"X": series, "y": np.arange(10) % 7, "subject": np.arange(1, 11)}
    >>> np.save("watch_dataset.npy", content)
    >>> gestures("watch_dataset.npy").train[0].shape
    (14, 128, 6)
    """
    if set(validation) & set(test):
        raise ValueError(
            "Arguments `validation` and `test` must be different subjects. "
            f"Received: validation={validation}, test={test}"
        )
    found = np.load(path, allow_pickle=True).item()
    windows = [_windows(series) for series in found["X"]]
    x = np.concatenate(windows).astype("float32")
    counts = [len(window) for window in windows]
    y = np.repeat(found["y"], counts).astype("int32")
    subjects = np.repeat(found["subject"], counts)
    is_validation, is_test = np.isin(subjects, validation), np.isin(subjects, test)
    is_train = ~is_validation & ~is_test
    mean, deviation = x[is_train].mean((0, 1)), x[is_train].std((0, 1))
    x = (x - mean) / deviation
    train, held_out, final = ((x[part], y[part]) for part in (is_train, is_validation, is_test))
    removed = tuple(mean.tolist()), tuple(deviation.tolist())
    return Data("gestures", train, held_out, final, normalization=removed)


def _windows(series):
    starts = range(0, len(series) - WINDOW + 1, STRIDE)
    return np.stack([series[start : start + WINDOW] for start in starts])
