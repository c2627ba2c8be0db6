"""Labels of classes, and whether the outputs of a model are logits."""

import keras
import numpy as np


def class_numbers(name, labels, shape):
    """Returns labels as class numbers, one for every output.

    Args:
        name: String, the argument's name for messages.
        labels: Array of class numbers, of one-hot rows, or of 0 and 1 for a single output.
        shape: Tuple, the shape of the outputs.

    Raises:
        ValueError: If labels are out of range or do not fit the outputs.

    Example:

    >>> class_numbers("y", np.array([[0, 1], [1, 0]]), shape=(2, 2))
    array([1, 0])
    """
    expected, classes = shape[:-1], max(shape[-1], 2)
    if labels.shape == shape and shape[-1] > 1 and is_one_hot(labels):
        labels = labels.argmax(axis=-1)
    elif labels.shape == (*expected, 1):
        labels = labels[..., 0]
    if labels.shape != expected or labels.dtype.kind not in "biuf":
        raise ValueError(
            f"Argument `{name}` must have a class number or a one-hot row for every output. "
            f"Received: labels of shape {labels.shape} and type {labels.dtype}, outputs of shape "
            f"{shape}{', but the rows are not one-hot' if labels.shape == shape else ''}"
        )
    if labels.min() < 0 or labels.max() >= classes or np.any(labels != np.rint(labels)):
        raise ValueError(
            f"Argument `{name}` must have labels from 0 to {classes - 1}, for the "
            f"{shape[-1]} outputs of the model. "
            f"Received: labels from {labels.min()} to {labels.max()}"
        )
    return labels.astype("int64")


def predicted(outputs, threshold):
    """Returns the class numbers that outputs stand for.

    Args:
        outputs: Array, whose last axis has a number for every class or a single one.
        threshold: Float, above which a single number is class 1.

    Example:

    >>> predicted(np.array([[0.2, 0.8]]), 0.5), predicted(np.array([[0.2], [0.8]]), 0.5)
    (array([1]), array([0, 1]))
    """
    if outputs.shape[-1] > 1:
        return outputs.argmax(axis=-1)
    return (outputs[..., 0] > threshold).astype("int64")


def is_one_hot(labels):
    """Returns whether the last axis of an array has a single 1 and else 0."""
    if labels.dtype.kind not in "biuf":
        return False
    return bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=-1) == 1).all())


def are_logits(model, outputs):
    """Returns whether a model's outputs are logits and not probabilities.

    They are if its loss says so, or if one is outside [0, 1].

    Args:
        model: A `keras.Model`.
        outputs: Array of its outputs.

    Example:

    >>> are_logits(model, np.array([[-1.0, 2.0]]))
    True
    """
    return takes_logits(model) or bool(outputs.min() < 0 or outputs.max() > 1)


def takes_logits(model):
    """Returns whether the loss that a model is compiled with takes logits.

    Args:
        model: A `keras.Model`.

    Example:

    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> takes_logits(model)
    True
    """
    losses = keras.tree.flatten(getattr(model, "loss", None))
    losses = [loss for loss in losses if isinstance(loss, keras.losses.Loss)]
    return any(loss.get_config().get("from_logits", False) for loss in losses)
