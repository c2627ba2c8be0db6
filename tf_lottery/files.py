"""Reads and writes files of named arrays: atomically, and without running code from a file."""

import contextlib
import errno
import json
import os
import pathlib
import uuid
import zipfile
import zlib

import numpy as np

_HEADER = "tf_lottery"
FORMAT = 2


def save_arrays(path, kind, arrays, metadata):
    """Writes arrays and metadata into one `.npz` file. On failure, an existing file is kept.

    Args:
        path: The file. Its folder must exist.
        kind: String that names the kind of content, checked when the file is loaded.
        arrays: Dict of names to arrays.
        metadata: Dict of values fit for JSON.

    Raises:
        OSError: If the file cannot be written.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    # NumPy's format has no bfloat16 or float8: it stores their bytes but not the type.
    dtypes = {name: a.dtype.name for name, a in arrays.items() if a.dtype.kind == "V"}
    header = json.dumps({"kind": kind, "version": FORMAT, "dtypes": dtypes, "metadata": metadata})
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **{_HEADER: np.array(header)}, **arrays)


def load_arrays(path, kind):
    """Reads a file that `save_arrays` wrote.

    Args:
        path: The file.
        kind: String, the kind of content that the file must have.

    Returns:
        A dict of names to arrays, and the metadata.

    Raises:
        OSError: If there is no such file or it cannot be read.
        ValueError: If it is damaged, was not written by `tf_lottery`, has content of another
            kind, or was written by a version with another format.
    """
    foreign = f"Argument `path` must be a {kind} file of tf_lottery. Received: path={str(path)!r}"
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("an array without names")
        with file:
            header = json.loads(str(file[_HEADER]))
            kind_found, version = header["kind"], header["version"]
            arrays = {name: file[name] for name in file.files if name != _HEADER}
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{foreign}, which is damaged or of another kind ({error})") from error
    if kind_found != kind:
        raise ValueError(f"{foreign}, a {kind_found} file")
    if version != FORMAT:
        raise ValueError(
            f"{foreign}, which has format {version}. This version of tf_lottery reads format "
            f"{FORMAT}. Use the version that wrote the file, or create the file again with this "
            "version; to restart a search, give it an empty folder"
        )
    for name, dtype in header["dtypes"].items():
        arrays[name] = arrays[name].view(np.dtype(dtype))
    return arrays, header["metadata"]


@contextlib.contextmanager
def atomic_path(path):
    """Yields a temporary file that replaces `path` if the block succeeds.

    Args:
        path: The file to write. Its folder must exist.

    Yields:
        The path of the temporary file, in the folder of `path`.

    Raises:
        OSError: If the folder does not exist or cannot be written, or `path` is a folder;
            raised before the block runs.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        message = "Argument `path` must name a file, not a folder. Received"
        raise IsADirectoryError(errno.EISDIR, message, str(path))
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        message = f"Argument `path` must be in a writable folder ({error.strerror}). Received"
        raise OSError(error.errno, message, str(path)) from None
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
