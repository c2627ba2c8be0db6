"""Data sets by name."""

import importlib.util
import itertools
import pathlib

import numpy as np

from tf_lottery import extras
from tf_lottery.experiments import text
from tf_lottery.experiments.data.files import fashion_mnist, gestures
from tf_lottery.experiments.data.parts import Data
from tf_lottery.experiments.data.speech import fixed_length, mfcc
from tf_lottery.experiments.data.splits import hold_out
from tf_lottery.experiments.data.tfds import read_examples, read_splits
from tf_lottery.experiments.data.tiny_imagenet import tiny_imagenet

IMAGES = ("digits", "mnist", "cifar10")
DATASETS = (
    *IMAGES,
    "fashion_mnist",
    "cifar100",
    "tiny_imagenet",
    "gestures",
    "speech_commands",
    "tiny_shakespeare",
)
TEXT_LENGTH = 100
# Clips whose features are computed at once.
_CLIPS = 256


def load(name, data_dir=None, download=False, seed=0, *, image_size=None, normalize=False):
    """Loads a data set.

    Args:
        name: `"digits"`, the 1,797 handwritten digits of 8 by 8 pixels that come with
            scikit-learn; `"gestures"`, of a smartwatch, from the file of the package `seglearn`;
            `"tiny_imagenet"`, from its folder of images; `"fashion_mnist"`, from its files or
            through TensorFlow Datasets; and through it `"mnist"`, `"cifar10"`, `"cifar100"`,
            `"speech_commands"`, clips of a second as features of shape `(49, 10, 1)`, or
            `"tiny_shakespeare"`, a million characters in windows of 100.
        data_dir: Folder of TensorFlow Datasets; for `"fashion_mnist"` also that of its four `.gz`
            files; for `"gestures"` the file `watch_dataset.npy` or its folder; for
            `"tiny_imagenet"` the folder `tiny-imagenet-200`. Defaults to `None`: the usual one of
            TensorFlow Datasets, or the package `seglearn`.
        download: Whether TensorFlow Datasets may download what is missing. Defaults to
            `False`.
        seed: Integer, decides which training images are held out. Defaults to `0`.
        image_size: Integer, a divisor of the images' rows and columns, to which they are
            reduced: a step of a convolutional network at 16 of CIFAR-10's 32 pixels takes a
            quarter of the time. Defaults to `None`: all pixels.
        normalize: Whether images get mean 0 and standard deviation 1 in every channel, as in
            the papers' code; see `Data.normalized`. Defaults to `False`: pixels in [0, 1].

    Returns:
        `Data`, with 5,000 validation examples (300 of the digits; a tenth of TinyImageNet; of
        text and speech, the validation split of TensorFlow Datasets; of the gestures, those of
        one subject).

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
    if name == "tiny_imagenet":
        return tiny_imagenet(data_dir, seed)
    if name == "tiny_shakespeare":
        return _tiny_shakespeare(data_dir, download)
    if name == "speech_commands":
        return _speech_commands(data_dir, download)
    if name == "gestures":
        return gestures(_gestures_file(data_dir))
    if name == "fashion_mnist" and data_dir and any(pathlib.Path(data_dir).glob("*-ubyte.gz")):
        return fashion_mnist(data_dir, seed)
    if name == "digits":
        x, y = _digits()
        train, test, held_out = (x[:-300], y[:-300]), (x[-300:], y[-300:]), 300
    else:
        train, test = _images(name, data_dir, download)
        held_out = 5000
    train, validation = hold_out(train, held_out, seed)
    return Data(name, train, validation, test)


def _gestures_file(data_dir):
    """Returns the path of the gestures: a given file, or in a folder or the package."""
    package = importlib.util.find_spec("seglearn")
    if data_dir is None and package is not None:
        data_dir = pathlib.Path(package.origin).parent / "data"
    if data_dir is None:
        raise FileNotFoundError(
            "Argument `data_dir` (--data-dir) must be the file watch_dataset.npy of the package "
            "seglearn, or its folder, unless the package is installed. Received: None"
        )
    path = pathlib.Path(data_dir)
    return path / "watch_dataset.npy" if path.is_dir() else path


def _digits():
    extras.require("experiments", "sklearn")
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return (pixels.reshape(-1, 8, 8, 1) / 16.0).astype("float32"), labels.astype("int32")


def _images(name, data_dir, download):
    parts = read_splits(name, ["train", "test"], data_dir, download, as_supervised=True)
    arrays = [tuple(map(np.asarray, part)) for part in parts]
    return [((x / np.float32(255)).astype("float32"), y.astype("int32")) for x, y in arrays]


def _tiny_shakespeare(data_dir, download):
    splits = ["train", "validation", "test"]
    parts = read_splits("tiny_shakespeare", splits, data_dir, download)
    texts = [part["text"][0].decode() for part in parts]
    vocabulary = text.vocabulary_of(texts[0])
    arrays = [text.windows(part, vocabulary, TEXT_LENGTH) for part in texts]
    return Data("tiny_shakespeare", *arrays, vocabulary)


def _speech_commands(data_dir, download):
    splits = ["train", "validation", "test"]
    parts = read_examples("speech_commands", splits, data_dir, download)
    return Data("speech_commands", *map(_features, parts))


def _features(examples):
    """Returns the features and labels of clips."""
    x, y = [], []
    while clips := list(itertools.islice(examples, _CLIPS)):
        x.append(mfcc(np.stack([fixed_length(audio) for audio, _ in clips])))
        y += [label for _, label in clips]
    return np.concatenate(x), np.array(y, "int32")
