"""Trains runs of a sweep in a process of its own; see `Processes`.

`ChildProcess` loads this file by its path.
"""

import os
import signal
import threading
import time

from tf_lottery.experiments.sweeps import run as runs

# Seconds between two looks at the parent process.
_PAUSE = 1.0


def attempt(run, directory):
    """Trains a run; see `run.attempt`."""
    return runs.attempt(run, directory)


def _end_with(parent):
    """Ends this process when its parent has: nobody would wait for the rest of a training."""
    while os.getppid() == parent:
        time.sleep(_PAUSE)
    os.kill(os.getpid(), signal.SIGKILL)


if os.name == "posix":
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
