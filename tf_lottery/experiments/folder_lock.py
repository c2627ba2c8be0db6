"""A lock on the folder of a run, which ends with its process."""

import contextlib
import errno
import functools
import os
import pathlib
import time

from tf_lottery import files, hosts

_NAME = ".lock"
# Seconds to wait for a lock that another process may only be looking at; see `is_locked`.
_PATIENCE, _PAUSE = 0.2, 0.05
# What the system says if another process has the lock; the last two are Windows'.
_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)


class FolderInUse(ValueError):
    """Another process works in the folder."""


@contextlib.contextmanager
def locked(directory, *, wait=_PATIENCE):
    """Keeps other processes out of a folder, and deletes what killed ones have left there.

    The operating system releases the lock if the process is killed. Of several processes that share
    a training, one takes the lock for all.

    Args:
        directory: The folder, which must exist.
        wait: Float, seconds to wait for another process. Defaults to `0.2`.

    Raises:
        FolderInUse: If another process works in the folder. It is a `ValueError`.
        OSError: If the folder cannot be written, or its file system has no locks.

    Example:

    >>> import os
    >>> with locked("."):
    ...     os.path.exists(".lock")
    True
    >>> os.path.exists(".lock")
    False
    """
    path = pathlib.Path(directory) / _NAME
    descriptor = hosts.on_writer(_acquire, path, time.monotonic() + wait)
    try:
        # The others wait, and fail too if this fails.
        hosts.on_writer(functools.partial(files.sweep, is_locked=True), directory)
        yield
    finally:
        if descriptor is not None:
            # Windows deletes no open files.
            if os.name == "posix":
                path.unlink(missing_ok=True)
            os.close(descriptor)


def is_locked(directory):
    """Returns whether another process works in a folder, and changes nothing.

    Args:
        directory: The folder.

    Example:

    >>> is_locked(".")
    False
    """
    try:
        descriptor = os.open(pathlib.Path(directory) / _NAME, os.O_RDWR)
    except OSError:
        return False
    try:
        _lock(descriptor)
    except OSError as error:
        return error.errno in _TAKEN
    finally:
        os.close(descriptor)
    return False


def _acquire(path, latest):
    """Returns the descriptor of the locked file."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _TAKEN:
                message = (
                    f"Argument `directory` (--out) cannot be locked ({error.strerror}). Received"
                )
                raise OSError(error.errno, message, str(path.parent)) from error
            if time.monotonic() < latest:
                time.sleep(_PAUSE)
                continue
            raise FolderInUse(
                "Argument `directory` (--out) must be a folder in which no other process works; "
                f"wait for it or end it. Received: {str(path.parent)!r}"
            ) from error
        # The process that had the lock may have deleted the file since it was opened.
        if os.name != "posix" or _is_same(path, descriptor):
            return descriptor
        os.close(descriptor)


def _is_same(path, descriptor):
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _lock(descriptor):
    if os.name == "posix":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
