"""Ends distillation during training."""

from typing import Any

import keras

from tf_lottery.callbacks.base import SparsityCallback
from tf_lottery.checks import natural_number
from tf_lottery.layers.distillation import Distillation
from tf_lottery.tweaks import require_tweak


@keras.saving.register_keras_serializable("tf_lottery")
class DistillationStop(SparsityCallback):
    """Stops distillation at an epoch or step. From then on, the loss is the model's own.

    The code of "Good Students Play Big Lottery Better" (arXiv:2101.03255v1) stops at epoch 60
    of 90 on ImageNet.

    Args:
        end_epoch: Integer >= 0, the first epoch without the teacher. Defaults to `None`.
        end_step: Integer >= 0, the optimizer step at which to stop, instead of an epoch.
            Defaults to `None`.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Raises:
        ValueError: Unless exactly one of `end_epoch` and `end_step` is given, or if it is outside
            its range. In training, if the model has no teacher.

    Example:

    >>> distillation = tfl.retrain.distill(sparse, dense)
    >>> sparse.compile("adam", loss)
    >>> history = sparse.fit(x, y, epochs=9, callbacks=[DistillationStop(end_epoch=6)], verbose=0)
    """

    def __init__(
        self, end_epoch: int | None = None, end_step: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if (end_epoch is None) == (end_step is None):
            raise ValueError(
                "Arguments `end_epoch` and `end_step`: exactly one must be given. "
                f"Received: end_epoch={end_epoch}, end_step={end_step}"
            )
        self.end_epoch = None if end_epoch is None else natural_number("end_epoch", end_epoch)
        self.end_step = None if end_step is None else natural_number("end_step", end_step)

    def next_step(self) -> int | None:
        """Returns the step at which to stop, or `None` if it has passed."""
        if self.end_step is None or self.step >= self.end_step:
            return None
        return self.end_step

    def on_step(self) -> None:
        """Sets the weight of the teacher to 0."""
        self._set(0.0)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Sets the weight of the teacher for the current step."""
        super().on_train_begin(logs)
        if self.end_step is not None:
            self._set(0.0 if self.step >= self.end_step else self._distillation().initial_alpha)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Sets the weight of the teacher for this epoch."""
        super().on_epoch_begin(epoch, logs)
        if self.end_epoch is not None:
            self._set(0.0 if epoch >= self.end_epoch else self._distillation().initial_alpha)

    def _distillation(self):
        return require_tweak(self.model, Distillation, "tfl.retrain.distill(model, teacher)")

    def _set(self, alpha):
        self._distillation().alpha.assign(alpha)
