"""Label smoothing as papers on sparse training define it."""

import numbers
from typing import Any

import keras
from keras import ops

from tf_lottery.checks import fraction


def keras_label_smoothing(mass: float, num_classes: int) -> float:
    """Returns the `label_smoothing` of Keras for the smoothing that papers use.

    Papers put `1 - mass` on the true class and `mass / (num_classes - 1)` on every other.
    Keras spreads its `label_smoothing` over all classes, the true one included, so the
    equivalent value is `mass * num_classes / (num_classes - 1)`.

    Args:
        mass: Float in [0, 1), the probability of all other classes together; at most
            `1 - 1 / num_classes`, with which all classes are equally likely.
        num_classes: Integer > 1.

    Returns:
        Float in [0, 1].

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> round(keras_label_smoothing(0.1, num_classes=10), 4)
    0.1111
    >>> smoothing = keras_label_smoothing(0.1, num_classes=10)
    >>> loss = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    """
    fraction("mass", mass)
    is_integer = isinstance(num_classes, numbers.Integral) and not isinstance(num_classes, bool)
    if not is_integer or num_classes < 2:
        raise ValueError(
            f"Argument `num_classes` must be an integer > 1. Received: num_classes={num_classes!r}"
        )
    if mass * num_classes > num_classes - 1:
        raise ValueError(
            f"Argument `mass` must be at most {1 - 1 / num_classes:.4g} for {num_classes} classes, "
            f"or the true class would get less than others. Received: mass={mass}"
        )
    return mass * num_classes / (num_classes - 1)


@keras.saving.register_keras_serializable("tf_lottery")
class SmoothedCrossentropy(keras.losses.Loss):
    """Crossentropy with smoothed labels.

    The target is `1 - mass` for the true class and `mass / (num_classes - 1)` for every other,
    as in the code of "Training Your Sparse Neural Network Better with Any Mask"
    (arXiv:2206.12755), which uses a mass of 0.1 in all epochs. It is the categorical
    crossentropy of Keras with the `label_smoothing` of `keras_label_smoothing`.

    Labels are integers in [0, num_classes), in the shape of the predictions without their last
    axis or with a last axis of 1, or distributions over the classes, such as one-hot labels, in
    the shape of the predictions. The loss of an integer outside that range is NaN.

    Args:
        mass: Float in [0, 1), the probability of all wrong classes together; at most
            `1 - 1 / num_classes`. Defaults to `0.1`.
        from_logits: Whether predictions are logits rather than probabilities. Defaults to
            `False`.
        reduction: How losses are reduced; see `keras.losses.Loss`. Defaults to
            `"sum_over_batch_size"`.
        name: String. Defaults to `"smoothed_crossentropy"`.
        dtype: The data type of the computations. Defaults to `None`: that of
            `keras.config.floatx()`, also with mixed precision.

    Raises:
        ValueError: If `mass` is outside its range; when called, if predictions have fewer
            than two classes or the shape of labels does not fit.

    Example:

    >>> loss = SmoothedCrossentropy(mass=0.1)
    >>> round(float(loss(np.array([2]), np.array([[0.05, 0.05, 0.9]]))), 4)
    0.3944
    >>> sparse.compile("sgd", SmoothedCrossentropy(from_logits=True))
    """

    def __init__(
        self,
        mass: float = 0.1,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "smoothed_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.mass = fraction("mass", mass)
        self.from_logits = from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the losses, in the shape of `y_pred` without its last axis."""
        num_classes = y_pred.shape[-1]
        if num_classes is None or num_classes < 2:
            raise ValueError(
                "`SmoothedCrossentropy` needs predictions with a last axis of two classes or "
                f"more. Received: predictions of shape {tuple(y_pred.shape)}"
            )
        smoothing = keras_label_smoothing(self.mass, num_classes)
        labels = self._classes(y_true, y_pred)
        if labels is not None:
            y_true = ops.one_hot(labels, num_classes, dtype=y_pred.dtype)
        losses = keras.losses.categorical_crossentropy(
            y_true, y_pred, from_logits=self.from_logits, label_smoothing=smoothing
        )
        if labels is None:
            return losses
        # Smoothing would turn an integer that is no class into a target without a true class.
        is_class = ops.logical_and(labels >= 0, labels < num_classes)
        return ops.where(is_class, losses, float("nan"))

    def _classes(self, y_true, y_pred):
        """Returns the labels as integers, or `None` if they are distributions."""
        rank, last = len(y_pred.shape), y_true.shape[-1] if len(y_true.shape) else None
        if len(y_true.shape) == rank and last == 1:
            y_true = ops.squeeze(y_true, axis=-1)
        if len(y_true.shape) == rank - 1:
            return ops.cast(y_true, "int32")
        if len(y_true.shape) == rank and last == y_pred.shape[-1]:
            return None
        raise ValueError(
            "`SmoothedCrossentropy` needs labels that are integers, in the shape of the "
            "predictions without the last axis, or distributions of the same shape. Received: "
            f"labels of shape {tuple(y_true.shape)}, predictions of shape {tuple(y_pred.shape)}"
        )

    def get_config(self) -> dict:
        """Returns the configuration."""
        own = {"mass": self.mass, "from_logits": self.from_logits, "dtype": self.dtype}
        return {**super().get_config(), **own}
