"""Which files a model was written to while it trained."""

import os
import re

import keras


class RecordsSaves(keras.Model):
    """A Keras model that remembers how sparse it was when it was saved.

    A callback such as `ModelCheckpoint(save_best_only=True)` may keep a model of low sparsity
    beside one that goes on to be pruned. Callbacks that prune empty `saves` when training begins,
    and compare when it ends.
    """

    @property
    def saves(self):
        """Dict of the files written since it was emptied to the sparsity the model had then.

        Of files whose names differ only in numbers, as those of epochs do, the last counts.
        """
        # Not an attribute that Keras would track as state of the model.
        return vars(self).setdefault("_saves", {})

    def save(self, filepath, *args, **kwargs):
        """Saves as any Keras model; see `keras.Model.save`."""
        # Read first, so that a model whose masks no longer hold leaves no file.
        sparsity = self.sparsity
        super().save(filepath, *args, **kwargs)
        self._record(filepath, sparsity)

    def save_weights(self, filepath, *args, **kwargs):
        """Saves the weights as any Keras model; see `keras.Model.save_weights`."""
        sparsity = self.sparsity
        super().save_weights(filepath, *args, **kwargs)
        self._record(filepath, sparsity)

    def _record(self, path, sparsity):
        series = re.sub(r"\d+", "#", os.fspath(path))
        for other in list(self.saves):
            if re.sub(r"\d+", "#", other) == series:
                del self.saves[other]
        self.saves[os.fspath(path)] = sparsity
