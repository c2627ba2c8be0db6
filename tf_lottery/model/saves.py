"""Records the files to which a model is saved during training."""

import contextlib
import os
import re
from typing import Any

import keras

from tf_lottery import _keras

_METHODS = ("save", "save_weights")


class RecordsSaves(keras.Model):
    """A Keras model that records its sparsity whenever it is saved.

    A callback such as `ModelCheckpoint(save_best_only=True)` may save the model before pruning
    has ended, with a sparsity that is too low or with soft gates. Therefore callbacks that prune
    clear `saves` when training begins, and compare the sparsities when it ends. If this model is
    a part of the fitted one, they call `start_recording`, so that saves of that model are
    recorded too.
    """

    @property
    def saves(self) -> dict[str, float | None]:
        """Dict from each file, written since `saves` was cleared, to the sparsity at that time.

        It is `None` if the masks were not final then, because the selection was soft. If names
        differ only in numbers, for example in the epoch, only the last file is kept.
        """
        # Set in this way, Keras does not track the dict as state of the model.
        return self.__dict__.setdefault("_saves", {})

    @property
    def final_sparsity(self) -> float | None:
        """The sparsity, or `None` if the masks are not final, because the selection is soft."""
        sparsity = self.sparsity
        return None if self.has_soft_gates else sparsity

    def save(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Saves as any Keras model; see `keras.Model.save`.

        Raises:
            ValueError: If the file has Keras' older format, which cannot hold a sparse model.
        """
        if os.fspath(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                "Argument `filepath` must end in '.keras', since Keras cannot load a sparse model "
                "from its older format. For a plain model, which it can, call "
                f"`tfl.strip(model).save(...)`. Received: {os.fspath(filepath)!r}"
            )
        with _recorded([self], filepath):
            super().save(filepath, *args, **kwargs)

    def save_weights(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Saves the weights as any Keras model; see `keras.Model.save_weights`."""
        with _recorded([self], filepath):
            super().save_weights(filepath, *args, **kwargs)


def start_recording(model):
    """Lets the sparse models inside a model record when that model is saved.

    Args:
        model: A `keras.Model`. Its methods `save` and `save_weights` are replaced until
            `stop_recording`. A `SparseModel`, which records its saves itself, does not change.
    """
    if isinstance(model, RecordsSaves):
        return
    inside = [layer for layer in _keras.all_layers(model) if isinstance(layer, RecordsSaves)]
    for name in _METHODS:
        # Several callbacks may start it, for several sparse models.
        if not isinstance(vars(model).get(name), _RecordingMethod):
            vars(model)[name] = _RecordingMethod(getattr(model, name), inside)


def stop_recording(model):
    """Undoes `start_recording`.

    Args:
        model: A `keras.Model`.
    """
    for name in _METHODS:
        if isinstance(vars(model).get(name), _RecordingMethod):
            del vars(model)[name]


class _RecordingMethod:
    """A method that saves a model, and records it in the sparse models inside."""

    def __init__(self, method, models):
        self._method, self._models = method, models

    def __call__(self, filepath, *args, **kwargs):
        with _recorded(self._models, filepath):
            return self._method(filepath, *args, **kwargs)


@contextlib.contextmanager
def _recorded(models, path):
    """Records a file, which the block writes, in some models."""
    # This raises an error if masks have no effect; read it before a file is written.
    sparsities = [model.final_sparsity for model in models]
    yield
    series = _without_numbers(path)
    for model, sparsity in zip(models, sparsities, strict=True):
        for other in list(model.saves):
            if _without_numbers(other) == series:
                del model.saves[other]
        model.saves[os.fspath(path)] = sparsity


def _without_numbers(path):
    return re.sub(r"\d+", "#", os.fspath(path))
