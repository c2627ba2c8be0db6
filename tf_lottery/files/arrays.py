"""Reads and writes files of named arrays, without running code from a file."""

import contextlib
import errno
import json
import math
import os
import tokenize
import zipfile
import zlib

import numpy as np
from numpy.lib import format as npy

from tf_lottery.files.atomic import atomic_path

_HEADER = "tf_lottery"
FORMAT = 3
# The header of earlier formats was compressed: the most bytes it may have if the file has fewer.
_COMPRESSED_HEADER = 16 * 2**20
# What reading a damaged file raises. A recursion error comes from deeply nested JSON.
_DAMAGED = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    # NumPy reads the header of an array as Python's text.
    tokenize.TokenError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def save_arrays(path, kind, arrays, metadata):
    """Writes arrays and metadata into one `.npz` file. On failure, an existing file is kept.

    The arrays are not compressed, since that takes long and saves nothing of random numbers.

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
    content = {"arrays": list(arrays), "dtypes": dtypes, "metadata": metadata}
    header = json.dumps({"kind": kind, "version": FORMAT, **content})
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **{_HEADER: np.array(header)}, **arrays)


def load_arrays(path, kind):
    """Reads a file that `save_arrays` wrote.

    No array is allocated that is larger than the file, and no header that is larger than the
    file and than 16 MB.

    Args:
        path: The file.
        kind: String, the kind of content that the file must have.

    Returns:
        A dict of names to arrays, and the metadata, a dict.

    Raises:
        OSError: If there is no such file or it cannot be read.
        ValueError: If it is damaged, was not written by `tf_lottery`, has content of another
            kind, or was written by a version with another format.
    """
    with reading(path, kind), zipfile.ZipFile(path) as archive:
        limit = os.path.getsize(path)
        header = _read_header(archive, kind, limit)
        arrays = {
            name: _read_array(archive, f"{name}.npy", limit) for name in map(str, header["arrays"])
        }
        for name, dtype in header["dtypes"].items():
            arrays[name] = arrays[name].view(np.dtype(dtype))
    return arrays, header["metadata"]


def load_metadata(path, kind):
    """Reads the metadata alone of a file that `save_arrays` wrote.

    Args:
        path: The file.
        kind: String, the kind of content that the file must have.

    Returns:
        The metadata, a dict.

    Raises:
        OSError: If there is no such file or it cannot be read.
        ValueError: If it is not such a file; see `load_arrays`.
    """
    with reading(path, kind), zipfile.ZipFile(path) as archive:
        return _read_header(archive, kind, os.path.getsize(path))["metadata"]


@contextlib.contextmanager
def reading(path, kind):
    """Turns all errors about the content of a file into a `ValueError` that names the file.

    Args:
        path: The file.
        kind: String, the kind of content that the file must have.

    Raises:
        ValueError: If the block raises an error, other than of the operating system.
    """
    try:
        yield
    except (*_DAMAGED, OSError) as error:
        # A damaged archive can lead to a position that no file has.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise ValueError(
            f"Argument `path` must be a {kind} file of tf_lottery. Received: path={str(path)!r}, "
            f"which is damaged or of another kind ({reason})"
        ) from error


def check_fields(values, expected):
    """Checks that a dict from a file has the fields that the file must have.

    Args:
        values: What the file holds.
        expected: Dict of names to a type or a tuple of types.

    Raises:
        ValueError: If `values` is no dict, or a field is missing or of another type.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{type(values).__name__} instead of a dict")
    for name, types in expected.items():
        value = values.get(name)
        # JSON's `true` is no number.
        if name not in values or not isinstance(value, types) or isinstance(value, bool):
            raise ValueError(f"field {name!r} is missing or wrong: {str(value)[:80]!r}")


def _read_header(archive, kind, limit):
    header = json.loads(str(_read_array(archive, f"{_HEADER}.npy", limit)))
    _check_header(header, kind)
    return header


def _check_header(header, kind):
    check_fields(header, {"kind": str, "version": (int, str)})
    if header["kind"] != kind:
        raise ValueError(f"a {header['kind']} file")
    if header["version"] != FORMAT:
        raise ValueError(
            f"it has format {header['version']}, and this version of tf_lottery reads format "
            f"{FORMAT}. Use the version that wrote the file, or create the file again with this "
            "version; to restart a search, give it an empty folder"
        )
    check_fields(header, {"arrays": list, "dtypes": dict, "metadata": dict})


def _read_array(archive, name, limit):
    """Returns an array of an archive, after its size was compared with that of the file.

    Args:
        archive: A `zipfile.ZipFile`.
        name: String.
        limit: Integer, the bytes that all of the file has.
    """
    info = archive.getinfo(name)
    if name == f"{_HEADER}.npy":
        limit = max(limit, _COMPRESSED_HEADER)
    if info.file_size > limit:
        raise ValueError(f"{name!r} claims more bytes than the file has")
    with archive.open(info) as file:
        version = npy.read_magic(file)
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        if version not in read_header:
            raise ValueError(f"{name!r} has version {version} of NumPy's format")
        shape, _, dtype = read_header[version](file)
        num_bytes = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or min(shape, default=0) < 0:
            raise ValueError(f"{name!r} has dtype {dtype} and shape {shape}")
        if num_bytes != info.file_size - file.tell():
            raise ValueError(f"{name!r} has another size than its shape {shape}")
    with archive.open(info) as file:
        return npy.read_array(file, allow_pickle=False)
