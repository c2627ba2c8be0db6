"""Runs functions that can crash Python in a separate process."""

import contextlib
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import tempfile

from tf_lottery.export.errors import ExportError

TASKS = pathlib.Path(__file__).parent / "tasks"
# How many of the last log lines of a crashed process are shown; converters log a lot.
NUM_LOG_LINES = 5


class ChildError(RuntimeError):
    """The function in the child process raised an exception."""


class ChildCrash(ChildError):
    """The child process died."""


class ChildProcess:
    """A Python process that calls functions of one file. It ends with its `with` block.

    The process loads the file by its path and does not import the package around it, so it
    starts fast. Entering the `with` block does not wait for the imports of the file.

    Args:
        path: String or path of the Python file.

    Example:

    >>> _ = pathlib.Path("double.py").write_text("def double(number): return 2 * number")
    >>> with ChildProcess("double.py") as child:
    ...     child.call("double", number=21)
    42
    """

    def __init__(self, path):
        self.path = os.fspath(path)

    def __enter__(self):
        if not sys.executable:
            raise ExportError(
                "An export runs files in separate processes and needs the path of the Python "
                f"interpreter for them. Received: sys.executable={sys.executable!r}"
            )
        self._log = tempfile.TemporaryFile()
        # The child uses no GPU: the parent may have reserved all of its memory.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", os.fspath(TASKS / "serve.py"), self.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment,
            )
        except OSError as error:
            self._log.close()
            raise ExportError(
                f"An export runs files in separate processes, and none can be started: {error}. "
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
            ChildError: If the function raises an exception.
        """
        try:
            self._send((name, arguments))
            outcome, value = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise ChildCrash(self._cause_of_death()) from error
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
