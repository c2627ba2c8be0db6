"""Reads the files that users name, with clear errors."""

import errno
import importlib
import os
import pathlib
import sys
import zipfile

import keras
import numpy as np

# The import registers the classes of sparse models with Keras.
import tf_lottery.model as _model  # noqa: F401


def kind(path):
    """Returns whether a file holds a `"model"` or a `"ticket"`.

    Args:
        path: The file.

    Raises:
        OSError: If there is no such file.
        ValueError: If it holds something else.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{_expected(path)}, a damaged file or one of another kind") from error
    if "tf_lottery.npy" in names:
        return "ticket"
    if "config.json" in names and path.suffix == ".keras":
        return "model"
    raise ValueError(f"{_expected(path)}, a file of another kind")


def load_model(path, compiled=False):
    """Returns the Keras model in a file.

    Args:
        path: The `.keras` file.
        compiled: Whether the model is compiled as it was when it was saved. Defaults to `False`.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is damaged, holds something else, or a class that Keras does not
            know.
    """
    if kind(path) != "model":
        raise ValueError(
            "FILE must be a .keras model: a ticket holds masks and the weights to start from, "
            f"not a trained network. Received: {str(path)!r}, a ticket"
        )
    try:
        return keras.saving.load_model(path, compile=compiled)
    except Exception as error:
        raise ValueError(
            f"{_expected(path)}, which Keras cannot load: {type(error).__name__}: {error}"
        ) from error


_DATA = "DATA must be a .npy or .npz file of numbers."


def load_examples(path):
    """Returns the arrays of a NumPy file: one, or a dict of names to several.

    Args:
        path: The `.npy` or `.npz` file, or `None`, for which `None` is returned.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is no NumPy file of numbers.
    """
    if path is None:
        return None
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            arrays = {name: found[name] for name in found.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{_DATA} Received: {str(path)!r} ({error})") from error
    if not all(isinstance(x, np.ndarray) and x.dtype.kind in "biuf" for x in arrays.values()):
        raise ValueError(f"{_DATA} Received: {str(path)!r}, which holds {sorted(arrays)}")
    return arrays if len(arrays) > 1 else next(iter(arrays.values()), np.zeros(0))


def load_labelled(source):
    """Returns inputs and labels.

    Args:
        source: String: a `.npz` file with the arrays `x` and `y`; or `MODULE:FUNCTION`, which is
            imported from the current folder or an installed package, and called without arguments.
            It returns arrays `(x, y)` or a data set of such batches.

    Raises:
        OSError: If there is no such file.
        ValueError: If it holds something else, or there is no such function.
    """
    module, _, name = source.rpartition(":")
    if all(part.isidentifier() for part in (*module.split("."), name)):
        function = getattr(import_module(module), name, None)
        if not callable(function):
            raise ValueError(
                f"DATA must name a function of the module. Received: {source!r}, but {module!r} "
                f"has no function {name!r}"
            )
        return function()
    found = load_examples(source)
    names = sorted(found) if isinstance(found, dict) else []
    if names != ["x", "y"]:
        raise ValueError(
            "DATA must be a .npz file with the arrays x and y, or MODULE:FUNCTION. "
            f"Received: {source!r} with {names or 'one array'}"
        )
    return found["x"], found["y"]


def import_module(name):
    """Imports a module of the current folder, or an installed one.

    Args:
        name: String.

    Raises:
        ValueError: If it cannot be imported.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"a Python module must be one that can be imported. Received: {name!r} ({error})"
        ) from error


def _expected(path):
    return f"FILE must be a .keras model or a ticket of tf_lottery (.npz). Received: {str(path)!r}"
