"""Runs functions that can crash Python in a separate process."""

import contextlib
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import tempfile
import threading

from tf_lottery.export.errors import ExportError

TASKS = pathlib.Path(__file__).parent / "tasks"
# How many of the last log lines of a crashed process are shown; converters log a lot.
NUM_LOG_LINES = 5
# Seconds, far more than a large model needs: a child that hangs must not hang the caller.
TIME_LIMIT = 3600


class ChildError(RuntimeError):
    """The function in the child process raised an exception."""


class ChildCrash(ChildError):
    """The child process died."""


class ChildTimeout(ChildCrash):
    """The child process took too long."""


class ChildProcess:
    """A Python process that calls functions of one file. It ends with its `with` block.

    The process loads the file by its path and does not import the package around it, so it
    starts fast. Entering the `with` block does not wait for the imports of the file.

    Args:
        path: String or path of the Python file.
        time_limit: Float, seconds after which a call ends the process. Defaults to `3600`.
        environment: Dict of variables of the process's environment that differ from those of this
            process. Defaults to `None`: it uses no GPU, since the parent may have reserved all of
            its memory.

    Example:

    >>> _ = pathlib.Path("double.py").write_text("def double(number): return 2 * number")
    >>> with ChildProcess("double.py") as child:
    ...     child.call("double", number=21)
    42
    """

    def __init__(self, path, time_limit=TIME_LIMIT, environment=None):
        self.path, self.time_limit = os.fspath(path), time_limit
        self.environment = {"CUDA_VISIBLE_DEVICES": "-1"} if environment is None else environment

    def __enter__(self):
        if not sys.executable:
            raise ExportError(
                "This runs in separate processes, which need the path of the Python interpreter. "
                f"Received: sys.executable={sys.executable!r}"
            )
        self._log = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", os.fspath(TASKS / "serve.py"), self.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**os.environ, **self.environment},
            )
        except OSError as error:
            self._log.close()
            raise ExportError(
                f"This runs in separate processes, and none can be started: {error}. "
                f"Received: sys.executable={sys.executable!r}"
            ) from error
        # If the process dies at once, `call` reports the cause.
        with contextlib.suppress(OSError):
            self._send(sys.path)
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def call(self, name, **arguments):
        """Calls a function of the file and returns what it returns.

        Args:
            name: String, the function's name.
            **arguments: Its arguments, values that can be pickled.

        Raises:
            ChildCrash: If the process dies. It is a `ChildError`.
            ChildTimeout: If it takes too long. It is a `ChildCrash`.
            ChildError: If the function raises an exception.
        """
        late = threading.Event()
        timer = threading.Timer(self.time_limit, lambda: (late.set(), self._process.kill()))
        timer.daemon = True
        timer.start()
        try:
            self._send((name, arguments))
            outcome, value = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            death = self._cause_of_death()
            if late.is_set():
                cause = f"The process took more than {self.time_limit:g} seconds and was ended."
                raise ChildTimeout(cause) from error
            raise ChildCrash(death) from error
        finally:
            timer.cancel()
        if outcome == "error":
            raise ChildError(value)
        return value

    def has_ended(self):
        """Returns whether the process has died."""
        return self._process.poll() is not None

    def _send(self, value):
        pickle.dump(value, self._process.stdin)
        self._process.stdin.flush()

    def _cause_of_death(self):
        status = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        cause = f"ended with status {status}"
        if status < 0:
            cause = f"was ended by {signal.Signals(-status).name}"
        return "\n".join([f"The process {cause}.", *lines[-NUM_LOG_LINES:]])


class KeptProcess:
    """A process for several calls of which each may crash, such as runs of several files.

    It starts at the first call, or before by `start`. A file that writes where it should not can
    make a later call crash. So a call that crashes is repeated in a new process, unless it was the
    first of its process: what is told is then about this call alone.

    Args:
        start: Function that returns a new `ChildProcess`.
    """

    def __init__(self, start):
        self._start, self._child, self._was_called = start, None, False
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._child, self._was_called = None, False
        self._stack.close()

    def start(self):
        """Starts the process if there is none, without waiting for its imports."""
        if self._child is None:
            self._child = self._stack.enter_context(self._start())

    def call(self, name, **arguments):
        """Calls a function; see `ChildProcess.call`."""
        is_first = not self._was_called
        self._was_called = True
        self.start()
        try:
            return self._child.call(name, **arguments)
        except ChildCrash as error:
            self.__exit__()
            if is_first or isinstance(error, ChildTimeout):
                raise
        except ChildError:
            raise
        except BaseException:
            # What is still in the pipes would be taken for a part of the next call.
            self.__exit__()
            raise
        return self.call(name, **arguments)
