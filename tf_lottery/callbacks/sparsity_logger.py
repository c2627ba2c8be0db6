"""Logs the sparsity together with loss and accuracy."""

import os
import pathlib
from typing import Any

import keras

from tf_lottery import extras
from tf_lottery.callbacks.base import SparsityCallback


@keras.saving.register_keras_serializable("tf_lottery")
class SparsityLogger(SparsityCallback):
    """Adds the sparsity to the logs of every epoch, and optionally to TensorBoard.

    `fit` then prints it, the history contains it, and later callbacks in the list can monitor
    it.

    Args:
        log_dir: Folder for TensorBoard. The sparsities of the model and of every kernel are
            written as scalars, and the kept weights as histograms. This needs TensorFlow.
            Defaults to `None`: nothing is written.
        prefix: String put before the names of the logs. Defaults to `""`.
        **kwargs: `sparse_model` and `optimizer`, if the sparse model is a part of the fitted
            model; see `tfl.callbacks.SparsityCallback`.

    Example:

    >>> sparse.fit(x, y, callbacks=[SparsityLogger()], verbose=0).history["sparsity"]
    [0.9]
    """

    ends_failed_training = False

    def __init__(
        self, log_dir: str | os.PathLike | None = None, prefix: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.log_dir = None if log_dir is None else pathlib.Path(log_dir)
        self.prefix = prefix
        self._writer = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Opens the TensorBoard file."""
        super().on_train_begin(logs)
        if self.log_dir is not None:
            extras.require("tensorflow", "tensorflow", "tensorboard")
            import tensorflow as tf

            self._writer = tf.summary.create_file_writer(str(self.log_dir))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the sparsity to `logs`."""
        super().on_epoch_end(epoch, logs)
        if logs is not None:
            logs[f"{self.prefix}sparsity"] = self.model.sparsity
        if self._writer is not None:
            self._write(epoch)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Closes the TensorBoard file."""
        super().on_train_end(logs)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, epoch):
        import tensorflow as tf

        masks, kernels = self.model.get_masks(), self.model.get_kernels()
        with self._writer.as_default(step=epoch):
            tf.summary.scalar(f"{self.prefix}sparsity", self.model.sparsity)
            for path, mask in masks.items():
                tf.summary.scalar(f"{self.prefix}sparsity/{path}", 1.0 - mask.mean())
                tf.summary.histogram(f"{self.prefix}kept/{path}", kernels[path][mask])
        self._writer.flush()
