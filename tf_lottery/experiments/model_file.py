"""Reads the files of models and tickets that users name, with clear errors."""

import errno
import hashlib
import os
import pathlib
import warnings
import zipfile

import keras

from tf_lottery._strip import strip
from tf_lottery.layers.inputs import model_inputs
from tf_lottery.model import SparseModel

_OLD = (".h5", ".hdf5")


def kind(path):
    """Returns whether a file holds a `"model"` or a `"ticket"`.

    Args:
        path: The file.

    Raises:
        OSError: If there is no such file.
        ValueError: If it holds something else.

    Example:

    >>> model.save("plain.keras")
    >>> kind("plain.keras")
    'model'
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.suffix.lower() in _OLD:
        raise ValueError(
            'FILE must be a .keras model. Convert this one by `python -c "import keras; '
            f'keras.saving.load_model({str(path)!r}).save({str(path.with_suffix(".keras"))!r})"`. '
            f"Received: {str(path)!r}, in the older format of Keras"
        )
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

    Example:

    >>> model.save("plain.keras")
    >>> load_model("plain.keras").count_params() == model.count_params()
    True
    """
    if kind(path) != "model":
        raise ValueError(
            "FILE must be a .keras model: a ticket holds masks and the weights to start from, "
            f"not a trained network. Received: {str(path)!r}, a ticket"
        )
    try:
        with warnings.catch_warnings():
            # The state of its training is not needed.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            return keras.saving.load_model(path, compile=compiled)
    except Exception as error:
        hint = "; --import MODULE registers custom classes" if "locate class" in str(error) else ""
        raise ValueError(
            f"{_expected(path)}, which Keras cannot load{hint}: {type(error).__name__}: {error}"
        ) from error


def load_plain(path):
    """Returns the plain Keras model in a file, of a sparse one the model inside.

    It is compiled as it was when it was saved.

    Args:
        path: The `.keras` file.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is damaged, holds something else, or a class that Keras does not
            know.

    Example:

    >>> sparse.save("masked.keras")
    >>> isinstance(load_plain("masked.keras"), tfl.SparseModel)
    False
    """
    model = load_model(path, compiled=True)
    if not isinstance(model, SparseModel):
        return model
    optimizer, loss = (getattr(model, name, None) for name in ("optimizer", "loss"))
    plain = strip(model)
    # Several optimizers are those of gates, which the plain model does not have.
    if optimizer is not None and not hasattr(optimizer, "optimizers"):
        plain.compile(type(optimizer).from_config(optimizer.get_config()), loss)
    return plain


def input_shape(model):
    """Returns the shape of an example that a model takes, `None` for several inputs or unknown.

    Args:
        model: A built `keras.Model`.

    Example:

    >>> input_shape(model)
    (8,)
    """
    inputs = model_inputs(model)
    return tuple(inputs.shape[1:]) if hasattr(inputs, "shape") else None


def file_digest(path):
    """Returns a short hash of the content of a file.

    Args:
        path: The file.

    Raises:
        OSError: If there is no such file.

    Example:

    >>> with open("empty", "wb") as file:
    ...     pass
    >>> file_digest("empty")
    'e3b0c44298fc1c14'
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _expected(path):
    return f"FILE must be a .keras model or a ticket of tf_lottery (.npz). Received: {str(path)!r}"
