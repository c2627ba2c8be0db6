"""Where the runs of a sweep are trained: here, in other processes, or on a Ray cluster.

A place has `submit`, which takes a run and returns a handle, and `wait`, which waits until one or
more of several handles are ready and yields each with how its run ended; see `run.attempt`. It is
left with its `with` block, which ends what is still training.
"""

import concurrent.futures
import contextlib
import os
import pathlib
import queue
import threading
import warnings

import keras

from tf_lottery import extras
from tf_lottery.experiments.sweeps.run import attempt
from tf_lottery.export.child_process import ChildCrash, ChildError, ChildProcess
from tf_lottery.export.errors import ExportError

_WORKER = pathlib.Path(__file__).parent / "worker.py"


class Here(contextlib.AbstractContextManager):
    """Trains in this process, one run after the other.

    Args:
        directory: The folder of the sweep.
        verbose: As in `fit`. Defaults to `0`.
    """

    def __init__(self, directory, verbose=0):
        self.directory, self.verbose = directory, verbose
        self._runs = {}

    def __exit__(self, *_):
        """Leaves nothing behind."""

    def submit(self, run):
        """Returns the run's name: it waits for its turn."""
        self._runs[run.name] = run
        return run.name

    def wait(self, handles):
        """Trains the first run."""
        name = next(iter(handles))
        yield name, attempt(self._runs[name], self.directory, self.verbose)


class Processes:
    """Trains in several processes of this machine, each of which makes one run after the other.

    A process that dies, for example since memory is short, fails its run and is replaced. If
    `CUDA_VISIBLE_DEVICES` names several GPUs, the processes share them evenly.

    Args:
        directory: The folder of the sweep.
        jobs: Integer, the number of processes.
    """

    def __init__(self, directory, jobs):
        self.directory, self.jobs = directory, jobs
        self._free = queue.SimpleQueue()
        self._children = {}
        self._has_ended = threading.Event()

    def __enter__(self):
        self._threads = concurrent.futures.ThreadPoolExecutor(self.jobs)
        for number in range(self.jobs):
            self._free.put(number)
        return self

    def __exit__(self, *_):
        self._has_ended.set()
        for child in list(self._children.values()):
            child.__exit__(None, None, None)
        self._threads.shutdown(cancel_futures=True)

    def submit(self, run):
        """Returns a future of how the run ends."""
        return self._threads.submit(self._train, run)

    def wait(self, handles):
        """Waits for the first futures."""
        done, _ = concurrent.futures.wait(handles, return_when="FIRST_COMPLETED")
        for future in done:
            yield future, future.result()

    def _train(self, run):
        number = self._free.get()
        try:
            return self._child(number).call("attempt", run=run, directory=self.directory)
        except ChildCrash as error:
            if not self._has_ended.is_set():
                self._children.pop(number).__exit__(None, None, None)
            return "failed", str(error)
        except (ChildError, ExportError) as error:
            return "failed", str(error)
        finally:
            self._free.put(number)

    def _child(self, number):
        if number not in self._children and not self._has_ended.is_set():
            environment = process_environment(number)
            child = ChildProcess(_WORKER, threading.TIMEOUT_MAX, environment)
            self._children[number] = child.__enter__()
        return self._children[number]


class RayCluster:
    """Trains on the machines of a Ray cluster.

    They need this library and a folder that all of them see under the same path.

    Args:
        directory: The folder of the sweep.
        address: String, that of the cluster, or `"auto"` for the one that this machine is part of.
        cpus: Number of CPU cores that a run takes. Defaults to `1`.
        gpus: Number of GPUs that a run takes, which may be a fraction. Defaults to `0`.
    """

    def __init__(self, directory, address, cpus=1, gpus=0):
        self.directory, self.address = os.path.abspath(directory), address
        self.resources = {"num_cpus": cpus, "num_gpus": gpus}

    def __enter__(self):
        extras.require("sweep", "ray")
        import ray

        backend = {"env_vars": {"KERAS_BACKEND": keras.backend.backend()}}
        try:
            ray.init(self.address, log_to_driver=False, logging_level="error", runtime_env=backend)
        except (ConnectionError, ValueError) as error:
            raise ValueError(
                "Argument `address` (--address) must be that of a running Ray cluster, which "
                f"`ray start --head` starts. Received: {self.address!r} ({error})"
            ) from error
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._warn_if_too_small(machines)
        # Attempts are counted by the sweep, also those that a lost machine ends.
        self._attempt = ray.remote(**self.resources, max_retries=0)(attempt)
        return self

    def __exit__(self, *_):
        import ray

        ray.shutdown()

    def _warn_if_too_small(self, machines):
        """Warns if runs wait, until a larger machine joins a cluster that grows by itself."""
        asked = {"CPU": self.resources["num_cpus"], "GPU": self.resources["num_gpus"]}
        if not any(all(m.get(k, 0) >= n for k, n in asked.items()) for m in machines):
            found = [{k: m.get(k, 0) for k in asked} for m in machines]
            warnings.warn(
                f"No machine of the Ray cluster has {asked}, so the runs wait until one joins. If "
                f"none will, ask for less with `cpus` and `gpus` (--cpus, --gpus). Found: {found}",
                stacklevel=4,
            )

    def submit(self, run):
        """Returns a reference to how the run ends."""
        return self._attempt.remote(run, self.directory)

    def wait(self, handles):
        """Waits for the first references."""
        import ray

        done, _ = ray.wait(list(handles))
        for reference in done:
            try:
                yield reference, ray.get(reference)
            except ray.exceptions.RayError as error:
                yield reference, ("failed", f"{type(error).__name__}: {error}")


def process_environment(number: int) -> dict[str, str]:
    """Returns the variables of the environment of a process that differ from this one's.

    Args:
        number: Integer, the process.

    Example:

    >>> os.environ["CUDA_VISIBLE_DEVICES"] = "0,3"
    >>> [process_environment(number)["CUDA_VISIBLE_DEVICES"] for number in range(3)]
    ['0', '3', '0']
    >>> del os.environ["CUDA_VISIBLE_DEVICES"]
    """
    gpus = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    chosen = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if len(gpus) > 1 else {}
    # Processes on one GPU share its memory.
    shared = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return {**chosen, **{name: os.environ.get(name, value) for name, value in shared.items()}}
