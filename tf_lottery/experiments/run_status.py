"""Where the runs in a folder stand."""

import dataclasses
import pathlib
from collections.abc import Iterator

from tf_lottery import files
from tf_lottery.experiments.folder_lock import is_locked
from tf_lottery.experiments.run_folder import RESULTS, SETTINGS, failures, read_json

# Files that tell the folder of a run from another one with a `settings.json`.
_OTHERS = (RESULTS, "checkpoint.npz", "search.npz", "search", "failures.json", "ticket.npz")


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """Where a run stands.

    Args:
        path: String, its folder, relative to the one that was searched.
        kind: String, such as `"train"`.
        state: `"finished"`; `"running"`, another process works in the folder; `"failed"`, the
            last good epoch is kept; `"stopped"`; or `"damaged"`.
        at: String, how far an unfinished run has come, or what is damaged.

    Example:

    >>> RunStatus("rigl_seed-0", "train", "stopped", "epoch 3 of 10").state
    'stopped'
    """

    path: str
    kind: str
    state: str
    at: str = ""


def find_runs(directory) -> list[RunStatus]:
    """Finds the runs in a folder and the folders in it, and reads where they stand.

    Args:
        directory: The folder.

    Returns:
        List of `RunStatus`, in the order of their paths. A sweep is listed as its runs.

    Raises:
        OSError: If the folder cannot be read.

    Example:

    >>> from tf_lottery.experiments.run_folder import locked_run
    >>> with locked_run("runs/one", "train", {"epochs": 3}):
    ...     pass
    >>> find_runs("runs")
    [RunStatus(path='one', kind='train', state='stopped', at='nothing saved yet')]
    """
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        raise NotADirectoryError(f"DIR must be a folder. Received: {str(directory)!r}")
    return list(_find(directory))


def _find(directory) -> Iterator[RunStatus]:
    for path in sorted(directory.rglob(SETTINGS), key=lambda path: path.parent):
        folder = path.parent
        name = folder.relative_to(directory).as_posix()
        try:
            settings = read_json(path)
        except (OSError, ValueError) as error:
            # Others' files may have this name, too.
            if any((folder / other).exists() for other in _OTHERS):
                yield RunStatus(name, "", "damaged", _first_words(error))
            continue
        # A sweep stands where its runs do, which are listed.
        if isinstance(settings.get("run"), str) and settings["run"] != "sweep":
            yield _status(name, folder, settings)


def _status(name, folder, settings):
    kind = settings["run"]
    if (folder / RESULTS).exists():
        return RunStatus(name, kind, "finished")
    try:
        at = _progress(folder, settings)
        has_failed = bool(failures(folder))
    except (OSError, ValueError) as error:
        return RunStatus(name, kind, "damaged", _first_words(error))
    state = "running" if is_locked(folder) else "failed" if has_failed else "stopped"
    return RunStatus(name, kind, state, at)


def _progress(folder, settings):
    """Returns how far the files say that a run has come."""
    for path in (folder / "search" / "search.npz", folder / "search.npz"):
        if path.exists():
            progress = files.load_metadata(path, "search").get("progress")
            with files.reading(path, "search"):
                files.check_fields(progress, {"level": int, "epochs_done": int})
                part = "round" if settings.get("method") == "cs" else "level"
                of = settings.get("rounds") if part == "round" else settings.get("levels")
                total = f" of {of}" if isinstance(of, int) else ""
                return f"{part} {progress['level']}{total}, epoch {progress['epochs_done']}"
    path = folder / "checkpoint.npz"
    if not path.exists():
        return "nothing saved yet" if settings["run"] in ("train", "retrain") else ""
    progress = files.load_metadata(path, "checkpoint")
    with files.reading(path, "checkpoint"):
        files.check_fields(progress, {"epoch": int})
    return f"epoch {progress['epoch']} of {settings.get('epochs')}"


def _first_words(error):
    return " ".join(str(error).split())[:200]
