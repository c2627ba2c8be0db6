"""Reads and writes files of named arrays: atomically, and without running code from a file."""

import contextlib
import errno
import hashlib
import json
import math
import os
import pathlib
import re
import socket
import stat
import time
import tokenize
import uuid
import zipfile
import zlib

import numpy as np
from numpy.lib import format as npy

_HEADER = "tf_lottery"
FORMAT = 3
# The header of earlier formats was compressed: the most bytes it may have if the file has fewer.
_COMPRESSED_HEADER = 16 * 2**20
# Temporary files of `atomic_path`, some with the suffix that Keras requires. The second half of
# the digits are those of the machine and the process that writes the file.
_PART = re.compile(r"\..+\.[0-9a-f]{16}([0-9a-f]{16})\.part(\.keras)?")
# Seconds without a write after which a temporary file is abandoned.
_ABANDONED = 3600
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


@contextlib.contextmanager
def atomic_path(path):
    """Yields a temporary file that replaces `path` if the block succeeds.

    After a loss of power there is the old or the new file. A symbolic link stays one, and the
    file it points to is replaced. The mode of an existing file is kept.

    Args:
        path: The file to write. Its folder must exist.

    Yields:
        The path of the temporary file, in the folder of `path`.

    Raises:
        OSError: If the folder does not exist or cannot be written, or `path` is a folder;
            raised before the block runs. Or if the disk is full.
    """
    path = pathlib.Path(os.path.realpath(path) if os.path.islink(path) else path)
    if path.is_dir():
        message = "Argument `path` must name a file, not a folder. Received"
        raise IsADirectoryError(errno.EISDIR, message, str(path))
    unique = f"{uuid.uuid4().hex[:16]}{_writer(os.getpid())}"
    temporary = path.with_name(f".{path.name}.{unique}.part")
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        message = f"Argument `path` must be in a writable folder ({error.strerror}). Received"
        raise OSError(error.errno, message, str(path)) from None
    try:
        yield temporary
        if path.exists():
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        _flush(temporary)
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            message = f"Could not write the file ({error.strerror})"
            raise OSError(error.errno, message, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sweep(directory, *, is_locked=False):
    """Deletes what killed processes have left of `atomic_path` in a folder.

    Args:
        directory: The folder.
        is_locked: Whether no other process writes there, so that all temporary files are left
            over. Defaults to `False`: files are kept for an hour after the last write unless
            their process has ended, which is not known of other machines.
    """
    for path in pathlib.Path(directory).glob(".*.part*"):
        if (match := _PART.fullmatch(path.name)) and (is_locked or _is_abandoned(path, match[1])):
            path.unlink(missing_ok=True)


def _writer(process):
    """Returns 16 digits that stand for a process of this machine."""
    machine = hashlib.blake2s(socket.gethostname().encode(), digest_size=4).hexdigest()
    return f"{machine}{process:08x}"


def _is_abandoned(path, writer):
    """Returns whether the process that began a file has ended, or left it long ago."""
    process = int(writer[8:], 16)
    if writer == _writer(process) and not _lives(process):
        return True
    return _last_write(path) <= time.time() - _ABANDONED


def _lives(process):
    """Returns whether a process of this machine may live."""
    # Windows has no signal that only looks.
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _last_write(path):
    """Returns when a file was written last, never if another process has just renamed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _flush(path):
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder):
    # Windows cannot open folders, some file systems cannot flush them, and a folder may be
    # writable but not readable. The file itself is written by then.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
