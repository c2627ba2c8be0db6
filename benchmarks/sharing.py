"""Shared by the benchmarks of many trainings: several processes work on them at once.

Every training has a folder and a lock in the folder of runs:

    python benchmarks/NAME.py --data-dir DIR &
    python benchmarks/NAME.py --data-dir DIR

A process takes the first training that nobody works on. One that is killed leaves its training to
the next process. `--trainings 1` ends a process after one training, with exit code 3 when nothing
was left.
"""

import contextlib
import dataclasses
import fcntl
import pathlib
import sys
from collections.abc import Callable

NOTHING_LEFT = 3


@dataclasses.dataclass(frozen=True)
class Job:
    """A training of a benchmark.

    Args:
        name: String, its folder.
        train: Function of the folder that trains, resumes what is there, and writes
            `results.json` at the end.
        needs: Tuple of the names of jobs that have to be finished before. Defaults to `()`.
    """

    name: str
    train: Callable
    needs: tuple = ()


def add_arguments(parser, name):
    """Adds the arguments of shared trainings.

    Args:
        parser: An `argparse.ArgumentParser`.
        name: String, the benchmark.
    """
    parser.add_argument("--data-dir", help="folder of TensorFlow Datasets")
    parser.add_argument("--runs-dir", default=f"runs/{name}", help="folder of finished runs")
    parser.add_argument("--record", default=name, help="name of the file of results")
    parser.add_argument("--trainings", type=int, help="end after this many trainings")


def share(jobs, folder, write_record, trainings=None):
    """Makes the trainings that are not made yet, together with other processes.

    Ends when nothing is left that could begin now, or after `trainings`; exits with the code
    `NOTHING_LEFT` if it was to make some and found none.

    Args:
        jobs: List of `Job`, in the order in which they should run.
        folder: Path of the folder of runs.
        write_record: Function without arguments that records everything that is finished. One
            process at a time calls it, after every training.
        trainings: Integer, after how many trainings to end. Defaults to `None`: at the end.
    """
    folder, made = pathlib.Path(folder), 0
    while (job := _make_next(jobs, folder)) if made != trainings else None:
        made += 1
        print(job.name, flush=True)
        with locked(folder / "record.lock", wait=True):
            write_record()
    if trainings and not made:
        sys.exit(NOTHING_LEFT)


def is_finished(folder, name):
    """Returns whether a training has ended.

    Args:
        folder: Path of the folder of runs.
        name: String, the name of the `Job`.
    """
    return (pathlib.Path(folder) / name / "results.json").exists()


@contextlib.contextmanager
def locked(path, wait=False):
    """Holds a lock among processes, which ends with the process.

    Args:
        path: The file of the lock.
        wait: Whether to wait for another process. Defaults to `False`.

    Yields:
        Whether the lock was free.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _make_next(jobs, folder):
    """Makes the first training that is free, and returns its job, or `None` if there is none."""
    for job in jobs:
        if not all(is_finished(folder, name) for name in job.needs):
            continue
        with locked(folder / f"{job.name}.lock") as is_free:
            if is_free and not is_finished(folder, job.name):
                job.train(folder / job.name)
                return job
    return None
