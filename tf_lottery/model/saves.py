"""Records the files to which a model is saved during training."""

import os
import re

import keras


class RecordsSaves(keras.Model):
    """A Keras model that records its sparsity whenever it is saved.

    A callback such as `ModelCheckpoint(save_best_only=True)` may save the model before pruning
    has ended, with a sparsity that is too low or with soft gates. Therefore callbacks that prune
    clear `saves` when training begins, and compare the sparsities when it ends. If this model is
    a part of another one, saves of that model are not recorded, so callbacks cannot warn of them.
    """

    @property
    def saves(self):
        """Dict from each file, written since `saves` was cleared, to the sparsity at that time.

        It is `None` if the masks were not final then, because the selection was soft. If names
        differ only in numbers, for example in the epoch, only the last file is kept.
        """
        # Set in this way, Keras does not track the dict as state of the model.
        return vars(self).setdefault("_saves", {})

    def save(self, filepath, *args, **kwargs):
        """Saves as any Keras model; see `keras.Model.save`."""
        sparsity = self._final_sparsity()
        super().save(filepath, *args, **kwargs)
        self._record(filepath, sparsity)

    def save_weights(self, filepath, *args, **kwargs):
        """Saves the weights as any Keras model; see `keras.Model.save_weights`."""
        sparsity = self._final_sparsity()
        super().save_weights(filepath, *args, **kwargs)
        self._record(filepath, sparsity)

    def _final_sparsity(self):
        # Raises an error if masks have no effect, before a file is written.
        sparsity = self.sparsity
        return None if self.has_soft_gates else sparsity

    def _record(self, path, sparsity):
        series = re.sub(r"\d+", "#", os.fspath(path))
        for other in list(self.saves):
            if re.sub(r"\d+", "#", other) == series:
                del self.saves[other]
        self.saves[os.fspath(path)] = sparsity
