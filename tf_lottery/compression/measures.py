"""By what the files of a compression are compared: accuracy, or explained variance."""

import math

import keras
import numpy as np

from tf_lottery.experiments.labels import are_logits, class_numbers, predicted

_REGRESSION = (
    "huber",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
)


def make_measure(
    model: keras.Model, labels: np.ndarray, outputs: np.ndarray
) -> "Accuracy | ExplainedVariance":
    """Returns what the outputs of a model and of its files are compared by.

    It is the `ExplainedVariance` if the model is compiled with a loss of regression, and the labels
    have the shape of the outputs and are not all 0 and 1; and the `Accuracy` otherwise.

    Args:
        model: A plain model.
        labels: Array of the validation labels.
        outputs: Array of its outputs on as many examples.

    Raises:
        ValueError: If labels do not fit the outputs.

    Example:

    >>> model.compile(loss="mse")
    >>> outputs = model.predict(x, verbose=0)
    >>> measure = make_measure(model, outputs + 0.5, outputs)
    >>> type(measure).__name__, measure(outputs) < 1
    ('ExplainedVariance', True)
    """
    losses = keras.tree.flatten(getattr(model, "loss", None))
    are_numbers = labels.dtype.kind in "iuf" and not np.isin(labels, (0, 1)).all()
    if are_numbers and _fit(labels, outputs.shape) and any(map(_is_regression, losses)):
        return ExplainedVariance(labels, outputs)
    return Accuracy(model, labels, outputs)


def _is_regression(loss):
    function = keras.losses.get(loss) if isinstance(loss, str) else loss
    return getattr(getattr(function, "fn", function), "__name__", "") in _REGRESSION


def _fit(labels, shape):
    """Returns whether labels have a shape. A number per example may have an axis of its own."""
    shapes = (shape, shape[:-1], (*shape, 1))
    return labels.shape in shapes and labels.size == math.prod(shape)


class Accuracy:
    """Counts which outputs are right.

    Labels are class numbers, with an output for every class; one-hot rows; or 0 and 1 for a
    single output. A single output is above its threshold for class 1: 0 if the model's loss takes
    logits or an output is outside [0, 1], else 0.5.

    Args:
        model: A plain model.
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
        outputs = _with_class_axis(outputs)
        self.threshold = 0.0 if are_logits(model, outputs) else 0.5
        self.labels = class_numbers("validation", labels, outputs.shape)
        self._output_shape = outputs.shape[1:]

    def __call__(self, outputs):
        """Returns the fraction of outputs that are right, 0 if they are not finite."""
        if not np.isfinite(outputs).all():
            return 0.0
        outputs = _with_class_axis(outputs)
        return float((predicted(outputs, self.threshold) == self.labels).mean())

    def standard_error(self, accuracy):
        """Returns the standard error of an accuracy: by how much chance moves it.

        It counts one more right and one more wrong output, so that it is above 0 also if all are
        right.
        """
        size = self.labels.size
        share = (accuracy * size + 1) / (size + 2)
        return math.sqrt(share * (1 - share) / size)

    def check_training_labels(self, labels):
        """Raises a `ValueError` if class numbers to train with are out of range.

        Args:
            labels: Array. Rows of the outputs' shape may be soft labels.
        """
        shape = (len(labels), *self._output_shape)
        if labels.shape != shape or shape[-1] == 1:
            class_numbers("train", labels, shape)


def _with_class_axis(outputs):
    """Returns outputs with an axis of classes, also of a model with one number per example."""
    return outputs[:, None] if outputs.ndim == 1 else outputs


class ExplainedVariance:
    """Computes the fraction of the labels' variance that outputs explain: R squared.

    It is 1 for outputs that equal the labels, 0 for their mean, and negative for worse ones.

    Args:
        labels: Array of numbers.
        outputs: Array of a model's outputs on as many examples.

    Raises:
        ValueError: If the shapes differ, or the labels are all the same or not finite.

    Example:

    >>> measure = ExplainedVariance(np.array([0.0, 2.0]), np.array([[0.0], [1.0]]))
    >>> measure(np.array([[0.0], [1.0]]))
    0.5
    """

    def __init__(self, labels: np.ndarray, outputs: np.ndarray) -> None:
        self._shape = outputs.shape[1:]
        self.labels = self._fitting("validation", labels)
        self._variance = np.square(self.labels - self.labels.mean(axis=0)).sum()
        if not self._variance:
            raise ValueError(
                "Argument `validation` must have labels that differ, to measure how well they are "
                f"predicted. Received: {len(labels)} equal labels"
            )

    def __call__(self, outputs):
        """Returns the explained variance of outputs, 0 if they are not finite."""
        if not np.isfinite(outputs).all():
            return 0.0
        errors = np.square(outputs.reshape(self.labels.shape) - self.labels).sum()
        return float(1 - errors / self._variance)

    def standard_error(self, value):
        """Returns the standard error of an explained variance: by how much chance moves it.

        The errors of examples are taken to be normally distributed.
        """
        return (1 - value) * math.sqrt(2 / len(self.labels))

    def check_training_labels(self, labels):
        """Raises a `ValueError` if labels to train with do not fit the outputs.

        Args:
            labels: Array.
        """
        self._fitting("train", labels)

    def _fitting(self, name, labels):
        """Returns labels in the shape of the outputs, or raises a `ValueError`."""
        shape = (len(labels), *self._shape)
        if not _fit(labels, shape) or not np.isfinite(labels).all():
            raise ValueError(
                f"Argument `{name}` must have finite numbers in the shape of the outputs as "
                f"labels. Received: labels of shape {labels.shape}, outputs of shape {shape}"
            )
        return labels.astype("float64").reshape(shape)
