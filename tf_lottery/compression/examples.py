"""The data of a compression: inputs and labels, checked against the model."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from tf_lottery.calibration.inputs import raw_batches, to_array
from tf_lottery.export.inputs import Inputs, make_inputs


@dataclasses.dataclass(frozen=True)
class Examples:
    """Inputs and labels.

    Args:
        inputs: `tf_lottery.export.inputs.Inputs`, with all examples.
        y: Array of labels, or `None`.
    """

    inputs: Inputs
    y: np.ndarray | None

    def __len__(self):
        return len(self.inputs.arrays[0])

    @property
    def x(self) -> Any:
        """The arrays, nested as the model takes them."""
        return self.inputs.pack(self.inputs.arrays)

    def chosen(self, count, seed):
        """Returns `Inputs` with some of the examples, chosen at random.

        Args:
            count: Integer, at most how many.
            seed: Integer.
        """
        order = np.random.default_rng(seed).permutation(len(self))[:count]
        return dataclasses.replace(self.inputs, arrays=[a[order] for a in self.inputs.arrays])


def read_examples(name: str, data: Any, model: keras.Model, needs_labels: bool = True) -> Examples:
    """Returns the examples of a data set, in memory.

    Args:
        name: String, the argument's name for messages.
        data: A tuple of arrays `(x, y)`; a data set of batches `(x, y)`; or, if no labels are
            needed, inputs alone.
        model: The model that takes the inputs.
        needs_labels: Whether there must be labels. Defaults to `True`.

    Raises:
        ValueError: If the data do not fit the model, or have no example or label.

    Example:

    >>> len(read_examples("train", (x, y), model))
    24
    """
    x, y = _read(name, data)
    if y is None and needs_labels:
        raise ValueError(
            f"Argument `{name}` must be a tuple of arrays `(x, y)` or a data set of such batches. "
            f"Received: a {type(data).__name__} without labels"
        )
    labels = None if y is None else np.asarray(y)
    found = Examples(make_inputs(model, x, 0, name), labels)
    if labels is not None and len(labels) != len(found):
        raise ValueError(
            f"Argument `{name}` must have a label for every example. "
            f"Received: {len(found)} examples and {len(labels)} labels"
        )
    return found


def _read(name, data):
    """Returns inputs and labels, the latter `None` if there are none."""
    if isinstance(data, tuple) and len(data) in (2, 3):
        return data[0], data[1]
    batches = raw_batches(name, data)
    if batches is None:
        return data, None
    pairs = [batch[:2] if isinstance(batch, tuple) else (batch,) for batch in batches]
    if not pairs or len({len(pair) for pair in pairs}) > 1:
        raise ValueError(
            f"Argument `{name}` must be a data set of batches `(x, y)`, at least one. "
            f"Received: {len(pairs)} batches"
        )
    x, *y = (
        keras.tree.map_structure(lambda *arrays: np.concatenate(list(map(to_array, arrays))), *part)
        for part in zip(*pairs, strict=True)
    )
    return x, y[0] if y else None


class Accuracy:
    """Counts which outputs are right.

    Labels are class numbers, with an output for every class; one-hot rows; or 0 and 1 for a
    single output.

    Args:
        model: A plain model. Whether its loss takes logits decides the threshold of a single
            output.
        labels: Array.
        outputs: Array of its outputs on as many examples.

    Raises:
        ValueError: If labels are out of range, or do not fit the outputs.

    Example:

    >>> accuracy = Accuracy(model, y, model.predict(x, verbose=0))
    >>> 0 <= accuracy(model.predict(x, verbose=0)) <= 1
    True
    """

    def __init__(self, model: keras.Model, labels: np.ndarray, outputs: np.ndarray) -> None:
        self.threshold = 0.0 if _takes_logits(model) else 0.5
        self.labels = _class_numbers(labels, outputs)

    def __call__(self, outputs):
        """Returns the fraction of outputs that are right, 0 if they are not finite."""
        if not np.isfinite(outputs).all():
            return 0.0
        if outputs.shape[-1] > 1:
            found = outputs.argmax(axis=-1)
        else:
            found = outputs[..., 0] > self.threshold
        return float((found == self.labels).mean())

    def standard_error(self, accuracy):
        """Returns the standard error of an accuracy: by how much chance moves it."""
        return math.sqrt(max(accuracy * (1 - accuracy), 0.0) / self.labels.size)


def _class_numbers(labels, outputs):
    """Returns labels as class numbers, one for every output, or raises a `ValueError`."""
    expected, classes = outputs.shape[:-1], max(outputs.shape[-1], 2)
    if labels.shape == outputs.shape and outputs.shape[-1] > 1:
        labels = labels.argmax(axis=-1)
    elif labels.shape == (*expected, 1):
        labels = labels[..., 0]
    if labels.shape != expected or labels.dtype.kind not in "biuf":
        raise ValueError(
            "Argument `validation` must have a class number or a one-hot row for every output. "
            f"Received: labels of shape {labels.shape} and type {labels.dtype}, outputs of shape "
            f"{outputs.shape}"
        )
    if labels.min() < 0 or labels.max() >= classes or np.any(labels != np.rint(labels)):
        raise ValueError(
            f"Argument `validation` must have labels from 0 to {classes - 1}, for the "
            f"{outputs.shape[-1]} outputs of the model. "
            f"Received: labels from {labels.min()} to {labels.max()}"
        )
    return labels.astype("int64")


def _takes_logits(model):
    loss = getattr(model, "loss", None)
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    return bool(config.get("from_logits", False))
