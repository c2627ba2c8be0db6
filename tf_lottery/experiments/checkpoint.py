"""Resume a training that was killed."""

import pathlib

import keras

from tf_lottery import _keras, files
from tf_lottery.snapshot import Snapshot


class Checkpoint(keras.callbacks.Callback):
    """Saves the state of a training to a file after every epoch, and resumes from it.

    Weights, masks, random states, optimizer and the epoch are written together or not at all.
    Put it first in the list of callbacks: the others then begin with the restored state. It
    writes after all callbacks have ended the epoch, including their changes and logs.

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

    def __init__(self, path):
        super().__init__()
        self.path = pathlib.Path(path)
        self.history = {}
        self._ended = None

    def on_train_begin(self, logs=None):
        """Restores the state that the file holds."""
        self.history, self._ended = {}, None
        if not self.path.exists():
            return
        arrays, progress = files.load_arrays(self.path, "checkpoint")
        Snapshot.from_arrays(self.model, arrays).restore(self.model)
        self.history = progress["history"]
        _keras.set_first_epoch(self.model, progress["epoch"])

    def on_epoch_begin(self, epoch, logs=None):
        """Writes the file of the previous epoch."""
        self._write()

    def on_epoch_end(self, epoch, logs=None):
        """Keeps the logs, to which later callbacks still add values."""
        self._ended = epoch, logs or {}

    def on_train_end(self, logs=None):
        """Writes the file after the last epoch."""
        self._write()
        # Otherwise the next `fit` would skip these epochs.
        _keras.set_first_epoch(self.model, None)

    def _write(self):
        if self._ended is None:
            return
        (epoch, logs), self._ended = self._ended, None
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        progress = {"epoch": epoch + 1, "history": self.history}
        files.save_arrays(self.path, "checkpoint", Snapshot(self.model).to_arrays(), progress)
