"""Replaces files atomically, and deletes what killed processes leave of that."""

import contextlib
import errno
import hashlib
import math
import os
import pathlib
import re
import socket
import stat
import time
import uuid

# Temporary files of `atomic_path`, some with the suffix that Keras requires. The second half of
# the digits are those of the machine and the process that writes the file.
_PART = re.compile(r"\..+\.[0-9a-f]{16}([0-9a-f]{16})\.part(\.keras)?")
# Seconds without a write after which a temporary file is abandoned.
_ABANDONED = 3600


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

    What other users have left stays.

    Args:
        directory: The folder.
        is_locked: Whether no other process writes there, so that all temporary files are left
            over. Defaults to `False`: files are kept for an hour after the last write unless
            their process has ended, which is not known of other machines.
    """
    for path in pathlib.Path(directory).glob(".*.part*"):
        if (match := _PART.fullmatch(path.name)) and (is_locked or _is_abandoned(path, match[1])):
            with contextlib.suppress(PermissionError):
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
