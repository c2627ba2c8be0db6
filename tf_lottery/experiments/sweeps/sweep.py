"""Runs a sweep: trains what is missing, again what failed, and writes the results."""

import contextlib
import pathlib
from collections.abc import Callable

import keras

from tf_lottery import extras
from tf_lottery.checks import natural_number, number_above, positive_integer
from tf_lottery.experiments.run_folder import locked_run, remove_files, write_json
from tf_lottery.experiments.sweeps import places
from tf_lottery.experiments.sweeps.results import SweepResult
from tf_lottery.experiments.sweeps.run import KINDS, Run
from tf_lottery.experiments.sweeps.spec import Sweep

KIND = "sweep"
FILES = ("results.csv", "results.json", "settings.json", "sweep.png")
_NOT_SHOWN = ("settings", "history", "failures", "ticket_cost")
# Seconds to wait for another process of the same sweep that writes the results.
_PATIENCE = 60


def run_sweep(
    sweep: Sweep,
    directory,
    *,
    jobs: int = 1,
    address: str | None = None,
    cpus: float = 1,
    gpus: float = 0,
    retries: int = 2,
    verbose: int | str = 0,
    on_run: Callable[[Run, str, str], None] | None = None,
) -> SweepResult:
    """Trains the runs of a sweep that are not finished, and writes one table of all results.

    Call this again, anywhere, to go on with a sweep that was killed: a run resumes from its last
    epoch and ends with the same weights. Several calls at once share the runs of a folder.

    Args:
        sweep: `Sweep`.
        directory: Folder, made if it does not exist, for a folder with the files of each run,
            `results.json`, `results.csv` with a line per run, and `sweep.png`.
        jobs: Integer, in how many processes to train. Defaults to `1`: in this one.
        address: String, that of a Ray cluster, or `"auto"`, to train there. Its machines must
            see `directory`. Defaults to `None`.
        cpus: Number of CPU cores that a run takes on the cluster. Defaults to `1`.
        gpus: Number of GPUs that a run takes on the cluster, also a fraction. Defaults to `0`.
        retries: Integer, how often a run is tried again after its process or machine died, or a
            file could not be written. Wrong settings and trainings that are not finite are not
            tried again: the same would happen. Defaults to `2`.
        verbose: As in `fit`, if `jobs` is 1. Defaults to `0`.
        on_run: Function that is called with a run, `"finished"`, `"failed"`, `"again"` or `"in
            use"`, and a message, whenever an attempt ends. It is not called for runs that had
            finished before. Defaults to `None`.

    Returns:
        A `SweepResult`, with the errors of the runs that failed.

    Raises:
        ValueError: If an argument is outside its range, or `directory` holds another kind of run,
            or a finished run of the same name with other settings.
        OSError: If `directory` cannot be written.
        RuntimeError: If files are to be exported and the backend is not TensorFlow.
        ImportError: If files are to be exported and the extra `export` is not installed.

    Example:

    >>> sweep = Sweep.from_dict({"method": ["dense", "gmp"], "epochs": 1})
    >>> result = run_sweep(sweep, "runs/sweep")
    >>> [group["density"]["mean"] for group in result.summary()]
    [1.0, 0.1]
    """
    positive_integer("jobs", jobs)
    natural_number("retries", retries)
    number_above("cpus", cpus, 0)
    number_above("gpus", gpus, 0, inclusive=True)
    if any(run.export for run in sweep.runs):
        _check_export()
    directory = pathlib.Path(directory)
    with _marked(directory):
        pass
    missing = unfinished(sweep, directory)
    failed: dict[str, str] = {}
    if missing:
        with _place(directory, len(missing), jobs, address, cpus, gpus, verbose) as place:
            failed = _train(missing, place, retries, on_run or (lambda *_: None))
    result = collect(sweep, directory, failed)
    with _marked(directory):
        write_results(result, directory)
    return result


def unfinished(sweep: Sweep, directory) -> list[Run]:
    """Returns the runs of a sweep that have no results yet.

    Args:
        sweep: `Sweep`.
        directory: The folder of the sweep.

    Raises:
        ValueError: If the results of a run are damaged, or those of other settings.
    """
    return [run for run in sweep.runs if run.results(directory) is None]


def collect(sweep: Sweep, directory, failed: dict[str, str] | None = None) -> SweepResult:
    """Returns the results of the runs that are finished.

    Args:
        sweep: `Sweep`.
        directory: The folder of the sweep.
        failed: Dict of the names of runs to errors. Defaults to `None`: no errors.

    Raises:
        ValueError: If the results of a run are damaged, or those of other settings.
    """
    rows = []
    for run in sweep.runs:
        results = run.results(directory)
        if results is not None:
            found = {k: results[k] for k in results if k not in _NOT_SHOWN}
            # A search trains the epochs that were given many times.
            found["total_epochs"] = found.pop("epochs")
            rows.append({"run": run.name, **run.given, **found})
    return SweepResult(sweep.varied(), rows, failed or {})


def write_results(result: SweepResult, directory) -> None:
    """Writes the table, the lines of all runs and the picture of a sweep.

    Args:
        result: `SweepResult`.
        directory: The folder of the sweep.

    Raises:
        OSError: If a file cannot be written.
    """
    directory = pathlib.Path(directory)
    result.write_csv(directory / "results.csv")
    # Without matplotlib there is no picture.
    with contextlib.suppress(ImportError):
        result.plot(directory / "sweep.png")
    write_json(directory / "results.json", result.to_dict())


def remove_sweep(sweep: Sweep, directory) -> None:
    """Deletes the files that `run_sweep` has written into a folder, and no others.

    Args:
        sweep: `Sweep`, whose runs are deleted.
        directory: The folder.

    Raises:
        ValueError: If the folder holds another kind of run, or another process works in it.

    Example:

    >>> remove_sweep(Sweep.from_dict({"method": "dense"}), "runs/sweep")
    """
    directory = pathlib.Path(directory)
    for run in sweep.runs:
        remove_files(directory / run.name, run.kind, KINDS[run.kind].files)
    remove_files(directory, KIND, FILES)


def _check_export():
    """Raises an error before the training if no file could be written after it."""
    if (backend := keras.backend.backend()) != "tensorflow":
        raise RuntimeError(
            "Key `export` of a sweep needs Keras on TensorFlow, as TFLite's converter does: set "
            f"KERAS_BACKEND=tensorflow. Received: keras.backend.backend()={backend!r}"
        )
    extras.require("export", "ai_edge_litert", "ai_edge_quantizer", "flatbuffers")


def _marked(directory):
    """Marks the folder as one of a sweep, and waits for other processes of the sweep."""
    return locked_run(directory, KIND, {}, FILES, wait=_PATIENCE)


def _place(directory, runs, jobs, address, cpus, gpus, verbose):
    if address is not None:
        return places.RayCluster(directory, address, cpus, gpus)
    jobs = min(jobs, runs)
    return places.Processes(directory, jobs) if jobs > 1 else places.Here(directory, verbose)


def _train(runs, place, retries, on_run):
    """Trains runs, and returns the errors of those that failed by their names."""
    failed, tries = {}, dict.fromkeys((run.name for run in runs), retries)
    pending = {place.submit(run): run for run in runs}
    while pending:
        for handle, (outcome, message) in list(place.wait(pending)):
            run = pending.pop(handle)
            if outcome == "failed" and tries[run.name] > 0:
                tries[run.name] -= 1
                outcome = "again"
            if outcome in ("again", "in use"):
                pending[place.submit(run)] = run
            elif outcome in ("failed", "refused"):
                failed[run.name] = message
                outcome = "failed"
            on_run(run, outcome, message)
    return failed
