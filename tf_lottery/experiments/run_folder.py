"""The folder of a run: its arguments, and files that are written atomically."""

import contextlib
import hashlib
import json
import os
import pathlib

import numpy as np

from tf_lottery import files, hosts
from tf_lottery.experiments.folder_lock import locked

_FAILURES, SETTINGS, RESULTS = "failures.json", "settings.json", "results.json"


@contextlib.contextmanager
def locked_run(directory, kind, settings, patterns=(), *, wait=0.2):
    """Makes a folder for a run, or checks that its run is the same, and keeps others out of it.

    A run that has failed, and is not finished, may go on with another learning rate. Settings are
    read and written under the lock: a process that has to wait leaves those of the other one.

    Args:
        directory: The folder. It and its parents are made if they do not exist.
        kind: String, the kind of run.
        settings: Dict that JSON can store, the arguments that determine the result.
        patterns: Tuple of patterns of the files that the run will write. A folder that has such
            files, but no run, is refused. Defaults to `()`.
        wait: Float, seconds to wait for another process; see `locked`. Defaults to `0.2`.

    Yields:
        The folder as a `pathlib.Path`.

    Raises:
        ValueError: If another process works in the folder, or it holds another run, or files
            that the run would overwrite.
        OSError: If the folder cannot be made, locked or written.

    Example:

    >>> with locked_run("runs/lottery", "lottery", {"dataset": "digits", "seed": 0}) as folder:
    ...     print(folder)
    runs/lottery
    """
    directory = pathlib.Path(directory)
    hosts.on_writer(_make_folder, directory)
    with locked(directory, wait=wait):
        hosts.on_writer(_claim, directory, kind, settings, patterns)
        yield directory


def _make_folder(directory):
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"Argument `directory` (--out) must be a folder ({error.strerror}). Received"
        raise OSError(error.errno, message, str(directory)) from None


def _claim(directory, kind, settings, patterns):
    """Writes the settings into a locked folder, or checks that they are those of its run."""
    if (directory / SETTINGS).exists():
        is_same = compare_settings(directory, kind, settings)
    else:
        is_same = False
        _check_nothing_is_overwritten(directory, patterns)
    if not is_same:
        write_json(directory / SETTINGS, {"run": kind, **settings})


def compare_settings(directory, kind, settings):
    """Checks that a folder holds this run, and writes nothing.

    Args:
        directory: The folder of a run.
        kind: String, the kind of run.
        settings: Dict that JSON can store, as for `locked_run`.

    Returns:
        Boolean: whether all settings are the same, `False` if the run goes on after a failure
        with another learning rate.

    Raises:
        ValueError: If the folder holds another run.
        OSError: If it holds none.

    Example:

    >>> with locked_run("runs/compared", "lottery", {"seed": 0}) as folder:
    ...     compare_settings(folder, "lottery", {"seed": 0})
    True
    """
    directory = pathlib.Path(directory)
    found = read_json(directory / SETTINGS)
    settings = json.loads(json.dumps({"run": kind, **settings}))
    names = [n for n in {**found, **settings} if found.get(n) != settings.get(n)]
    if not names:
        return True
    # The results of a finished run are those of the rate that it ended with.
    is_finished = (directory / RESULTS).exists()
    if names == ["learning_rate"] and failures(directory) and not is_finished:
        return False
    differences = [f"{n}={found.get(n)!r} instead of {settings.get(n)!r}" for n in names]
    raise ValueError(
        "Argument `directory` (--out) must be a new folder or hold a run with the same "
        "arguments; choose another one, or delete that run with --fresh. "
        f"Received: {str(directory)!r}, a run with {', '.join(differences)}"
    )


def _check_nothing_is_overwritten(directory, patterns):
    if foreign := [p.name for pattern in patterns for p in directory.glob(pattern)]:
        raise ValueError(
            "Argument `directory` (--out) must be a new folder or hold such a run: files "
            f"would be overwritten. Received: {str(directory)!r} with {sorted(foreign)[:8]}"
        )


def read_results(directory, fields):
    """Returns the results of a finished run, or `None` if it is not finished.

    Args:
        directory: The folder.
        fields: Dict of names that the results must have to their types.

    Raises:
        ValueError: If the file is damaged.
    """
    path = pathlib.Path(directory) / RESULTS
    if not path.exists():
        return None
    with files.reading(path, "results"):
        results = read_json(path)
        files.check_fields(results, fields)
    return results


def check_success(directory, callback):
    """Raises an error if a training failed, and notes the failure in the folder of its run.

    Args:
        directory: The folder.
        callback: A `SparsityCallback` of the training.

    Raises:
        ValueError: If the training failed.
        OSError: If the failure cannot be noted.
    """
    if callback.failure is None:
        return
    directory = pathlib.Path(directory)
    rate = read_json(directory / SETTINGS).get("learning_rate")
    failed = {"learning_rate": rate, "failure": callback.failure}
    noted = failures(directory).get("failures", [])
    write_json(directory / _FAILURES, {"failures": [*noted, failed]})
    raise ValueError(
        f"Training failed: {callback.failure}. With another `learning_rate` (--learning-rate), "
        f"the run in {str(directory)!r} goes on from its last good epoch"
    )


def failures(directory):
    """Returns `{"failures": [...]}` with how a run has failed before, or an empty dict.

    Args:
        directory: The folder of the run.
    """
    path = pathlib.Path(directory) / _FAILURES
    return read_json(path) if path.exists() else {}


def digest(groups):
    """Returns a short hash of arrays, as a string for settings.

    Args:
        groups: Dict of names to dicts of names to arrays.

    Example:

    >>> digest({"weights": {}})
    'e3b0c44298fc1c14'
    """
    found = hashlib.sha256()
    for group, arrays in groups.items():
        for name, array in arrays.items():
            array = np.asarray(array)
            found.update(f"{group}/{name}{array.shape}{array.dtype}".encode())
            found.update(array.tobytes())
    return found.hexdigest()[:16]


def read_json(path):
    """Returns the dict in a JSON file.

    Args:
        path: The file.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is damaged or holds no dict.
    """
    try:
        content = json.loads(pathlib.Path(path).read_text())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"Argument `path` must be a JSON file of a run. Received: {str(path)!r}")
    return content


def write_json(path, content):
    """Writes a JSON file, atomically.

    Args:
        path: The file.
        content: Dict that JSON can store.

    Raises:
        OSError: If the file cannot be written.
    """
    with files.atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def save_model(model, path):
    """Saves a Keras model, atomically.

    Args:
        model: A `keras.Model`.
        path: The `.keras` file. An existing one is replaced, or kept if saving fails.

    Raises:
        OSError: If the file cannot be written.
    """
    with files.atomic_path(path) as temporary:
        # Keras requires the suffix.
        archive = temporary.with_name(f"{temporary.name}.keras")
        try:
            model.save(archive)
            os.replace(archive, temporary)
        finally:
            archive.unlink(missing_ok=True)


def remove_files(directory, kind, patterns):
    """Deletes the files of a run, and folders that become empty.

    Results go first and settings last: if the process is killed in between, the folder still
    holds a run, unfinished, that can be deleted or trained again.

    Args:
        directory: The folder. Nothing happens unless it holds a run.
        kind: String, the kind of run that the folder must hold.
        patterns: Tuple of patterns of paths in the folder.

    Raises:
        ValueError: If the folder holds a run of another kind, or another process works in it.
    """
    directory = pathlib.Path(directory)
    if not (directory / SETTINGS).exists():
        return
    found = read_json(directory / SETTINGS).get("run")
    if found != kind:
        raise ValueError(
            f"--fresh deletes runs of `{kind}` alone; choose another folder, or delete this one. "
            f"Received: {str(directory)!r}, a run of {found!r}"
        )
    folders = {directory}
    with locked(directory):
        paths = {path for pattern in patterns for path in directory.glob(pattern)}
        ranks = {directory / RESULTS: 0, directory / SETTINGS: 2}
        for path in sorted(paths, key=lambda path: ranks.get(path, 1)):
            path.unlink()
            folders.add(path.parent)
        for folder in folders:
            files.sweep(folder, is_locked=True)
    for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
        if not any(folder.iterdir()):
            folder.rmdir()
