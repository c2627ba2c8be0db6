"""The user's own data, in three parts."""

import pathlib

import keras
import numpy as np

from tf_lottery.experiments import run_folder
from tf_lottery.experiments.data.parts import Data
from tf_lottery.experiments.data.sources import read_source
from tf_lottery.experiments.data.splits import hold_out
from tf_lottery.experiments.labels import is_one_hot

_SHARE = 10


def load_own(
    source,
    *,
    validation=None,
    test=None,
    reading=None,
    input_shape=None,
    seed=0,
    image_size=None,
    normalize=False,
):
    """Loads data of the user's own for a classifier.

    What is not given is held out of the training data: first a tenth for the test, then as many
    for validation; see `splits.hold_out`. All examples are held in memory.

    Args:
        source: String; see `sources.read_source`. A source of several parts, such as a function
            that returns training and validation data, provides these.
        validation: String, the source of the validation data. Defaults to `None`.
        test: String, the source of the test data. Defaults to `None`.
        reading: `sources.Reading`. Defaults to `None`: its defaults.
        input_shape: Tuple, the shape that the model takes. Defaults to `None`: unknown.
        seed: Integer, decides which examples are held out. Defaults to `0`.
        image_size: Integer; see `load`. Defaults to `None`.
        normalize: Boolean; see `load`. Defaults to `False`.

    Returns:
        `Data`, with class numbers as labels, and a `digest` of all examples.

    Raises:
        ValueError: If a source cannot be read, has no class labels, too few examples, sample
            weights, or inputs that are not finite.
        OSError: If a file is missing.

    Example:

    >>> np.savez("own.npz", x=x, y=y)
    >>> data = load_own("own.npz")
    >>> data.name, [len(y) for _, y in (data.train, data.validation, data.test)]
    ('own.npz', [20, 2, 2])
    """
    found = read_source(source, reading, input_shape=input_shape)
    parts = dict(zip(("train", "validation", "test"), found.parts, strict=False))
    for name, other in (("validation", validation), ("test", test)):
        if other is not None:
            shape = input_shape or _image_shape(parts["train"][0])
            read = read_source(other, reading, input_shape=shape, classes=found.classes)
            parts[name] = read.parts[0]
    pairs = {
        name: _checked(name, part, found.classes)
        for name, part in parts.items()
        if part is not None
    }
    count = len(pairs["train"][1]) // _SHARE
    for name in ("test", "validation"):
        if name not in pairs:
            pairs["train"], pairs[name] = hold_out(pairs["train"], max(1, count), seed)
    name, digest = pathlib.Path(source).name, _digest(pairs)
    data = Data(name, **pairs, classes=found.classes, digest=digest)
    if image_size is not None and data.input_shape[:2] != (image_size, image_size):
        data = data.resized(image_size)
    return data.normalized() if normalize else data


def _checked(name, part, classes):
    """Returns inputs and class numbers as arrays."""
    x, y, weights = part
    if weights is not None:
        raise ValueError(
            "DATA must have no sample weights, which training would not take into account. "
            f"Received: sample weights in the {name} data"
        )
    x = keras.tree.map_structure(np.asarray, x)
    arrays = keras.tree.flatten(x)
    kinds = {array.dtype.kind for array in arrays}
    if not kinds <= set("biuf"):
        raise ValueError(
            f"DATA must have numbers as inputs. Received: {arrays[0].dtype} in the {name} data"
        )
    # Float64 takes twice the memory, and networks compute in less.
    x = keras.tree.map_structure(lambda a: a.astype("float32") if a.dtype == "float64" else a, x)
    labels = _class_numbers(name, np.asarray(y), classes)
    if not labels.size or any(array.shape[:1] != labels.shape[:1] for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays[:3])
        raise ValueError(
            "DATA must have a label for every example, at least one. Received: inputs of shape "
            f"{shapes}{', ...: a list is one of arrays' if len(arrays) > 3 else ''} and labels of "
            f"shape {labels.shape} in the {name} data"
        )
    for array in keras.tree.flatten(x):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(
                f"DATA must be finite. Received: NaN or infinity in the {name} data, first in "
                f"example {int(np.argwhere(~np.isfinite(array))[0, 0])}"
            )
    return x, labels


def _class_numbers(name, labels, classes):
    if labels.ndim > 1 and labels.shape[-1] > 1 and labels.size and is_one_hot(labels):
        labels = labels.argmax(axis=-1)
    elif labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    are_numbers = labels.dtype.kind in "biuf" and np.isfinite(labels).all()
    if not are_numbers or (labels != np.rint(labels)).any() or (labels < 0).any():
        kind = (
            f"from {labels.min()} to {labels.max()}"
            if labels.dtype.kind in "biuf"
            else labels.dtype
        )
        raise ValueError(
            "DATA must have labels that are class numbers, 0 and up, or names; what is predicted "
            f"is a class. Received: {kind} in the {name} data"
        )
    if classes and labels.size and labels.max() >= len(classes):
        raise ValueError(
            f"DATA must have labels below {len(classes)}, the number of classes of the training "
            f"data. Received: {labels.max()} in the {name} data"
        )
    return labels.astype("int32")


def _image_shape(x):
    """Returns the shape of images, to which those of other sources are scaled, else `None`."""
    return x.shape[1:] if np.ndim(x) == 4 else None


def _digest(pairs):
    return run_folder.digest(
        {
            name: {str(i): array for i, array in enumerate(keras.tree.flatten(pair))}
            for name, pair in sorted(pairs.items())
        }
    )
