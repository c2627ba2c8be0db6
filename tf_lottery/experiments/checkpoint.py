"""Resume a training that was killed."""

import os
import pathlib

from tf_lottery import _keras, files, hosts
from tf_lottery.callbacks.base import SparsityCallback
from tf_lottery.optimizers import learning_rates
from tf_lottery.snapshot import Snapshot


class Checkpoint(SparsityCallback):
    """Saves the state of a training to a file after every epoch, and resumes from it.

    Weights, masks, random states, optimizer and the epoch are written together or not at all.
    Of several processes that share a training, one writes, and all read.
    Put it first in the list of callbacks: the others then begin with the restored state. It
    writes after all callbacks have ended the epoch, including their changes and logs. A training
    that has failed is not written, and goes on from the last good epoch. If the model was then
    compiled with another learning rate, this one is used.

    Args:
        path: The `.npz` file.

    Attributes:
        history: Dict of the names of logs to a list with a value per epoch, including the
            epochs before the training was killed.

    Example:

    >>> checkpoint = Checkpoint("checkpoint.npz")
    >>> history = sparse.fit(x, y, epochs=2, callbacks=[checkpoint], verbose=0)
    >>> history = sparse.fit(x, y, epochs=3, callbacks=[Checkpoint("checkpoint.npz")], verbose=0)
    >>> history.epoch
    [2]
    """

    works_in_loops = False

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__()
        self.path = pathlib.Path(path)
        self.history: dict[str, list[float]] = {}
        self._rates = []
        self._ended = None

    def on_train_begin(self, logs=None):
        """Restores the state that the file holds, and deletes what killed writes have left."""
        self.training.build_optimizer()
        self.history, self._ended = {}, None
        self._rates = learning_rates(self.optimizer)
        hosts.on_writer(files.sweep, self.path.parent)
        size = self.path.stat().st_size if self.path.exists() else None
        hosts.check_same(size, "path", self.path)
        if size is not None:
            self._resume()
        super().on_train_begin(logs)

    def on_epoch_begin(self, epoch, logs=None):
        """Writes the file of the previous epoch."""
        super().on_epoch_begin(epoch, logs)
        self._write()

    def on_epoch_end(self, epoch, logs=None):
        """Keeps the logs, to which later callbacks still add values."""
        super().on_epoch_end(epoch, logs)
        self._ended = epoch, logs or {}

    def on_train_end(self, logs=None):
        """Writes the file after the last epoch."""
        super().on_train_end(logs)
        self._write()
        # Otherwise the next `fit` would skip these epochs.
        _keras.set_first_epoch(self.model, None)

    def how_to_go_on(self):
        """Returns how to start a failed training again, for a message."""
        return f"; with {str(self.path)!r}, the next `fit` goes on from there"

    def _resume(self):
        arrays, progress = files.load_arrays(self.path, "checkpoint")
        with files.reading(self.path, "checkpoint"):
            files.check_fields(progress, {"epoch": int, "history": dict, "learning_rates": list})
            snapshot = Snapshot.from_arrays(self.model, arrays)
        hosts.check_same(progress, "path", self.path)
        if self._rates not in (progress["learning_rates"], snapshot.learning_rates):
            snapshot = snapshot.with_learning_rates(self._rates)
        snapshot.restore(self.model)
        self.history = progress["history"]
        _keras.set_first_epoch(self.model, progress["epoch"])

    def _write(self):
        # Another callback may have found the failure, at the end of the epoch.
        if self._ended is None or self._good.failure is not None:
            return
        (epoch, logs), self._ended = self._ended, None
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        progress = {"epoch": epoch + 1, "history": self.history, "learning_rates": self._rates}
        arrays = Snapshot(self.model).to_arrays()
        hosts.on_writer(files.save_arrays, self.path, "checkpoint", arrays, progress)
