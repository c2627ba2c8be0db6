import errno
import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from tf_lottery.experiments import folder_lock, run_folder
from tf_lottery.experiments.folder_lock import locked

SETTINGS = {"seed": 0, "levels": (1, 2)}


def begin(*args):
    """Makes the folder of a run, or checks that its run is the same, and ends."""
    with run_folder.locked_run(*args) as folder:
        return folder


def test_same_settings_again(tmp_path):
    folder = begin(tmp_path / "a" / "b", "train", SETTINGS)
    assert folder == tmp_path / "a" / "b"
    begin(folder, "train", SETTINGS)


def test_other_settings_are_named(tmp_path):
    begin(tmp_path, "train", SETTINGS)
    with pytest.raises(ValueError, match=r"--out.*Received: .*seed=0 instead of 1, rate=None"):
        begin(tmp_path, "train", {**SETTINGS, "seed": 1, "rate": 0.2})
    assert run_folder.read_json(tmp_path / "settings.json")["seed"] == 0


@pytest.mark.parametrize("content", ["", "{", "[]", "\0"])
def test_damaged_settings(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ValueError, match="`path` must be a JSON file of a run"):
        begin(tmp_path, "train", SETTINGS)


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="`directory`.* must be a folder"):
            begin(path, "train", SETTINGS)
    assert (tmp_path / "file").read_text() == "mine"


def test_save_model_replaces_the_file_or_keeps_it(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    path = tmp_path / "model.keras"
    run_folder.save_model(model, path)
    run_folder.save_model(model, path)
    loaded = keras.saving.load_model(path)
    np.testing.assert_array_equal(loaded.weights[0], model.weights[0])

    content = path.read_bytes()

    def fail(file):
        file.write_text("half a model")
        raise OSError("disk full")

    monkeypatch.setattr(model, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        run_folder.save_model(model, path)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]


def test_remove_files_leaves_what_is_not_of_the_run(tmp_path):
    folder = begin(tmp_path / "run", "train", SETTINGS)
    (folder / "search").mkdir()
    for name in ("search/ticket_01.npz", "search/notes.txt", "model.keras", "mine.keras"):
        (folder / name).write_text("")
    patterns = ("settings.json", "search/ticket_*.npz", "model.keras")
    run_folder.remove_files(folder, "train", patterns)
    left = {path.name for path in folder.rglob("*") if path.is_file()}
    assert left == {"notes.txt", "mine.keras"}


def test_remove_files_removes_empty_folders(tmp_path):
    folder = begin(tmp_path / "run", "train", SETTINGS)
    (folder / "search").mkdir()
    (folder / "search" / "a.npz").write_text("")
    run_folder.remove_files(folder, "train", ("settings.json", "search/*.npz"))
    assert not folder.exists()


def test_remove_files_needs_a_run(tmp_path):
    (tmp_path / "model.keras").write_text("mine")
    run_folder.remove_files(tmp_path, "train", ("*",))
    run_folder.remove_files(tmp_path / "missing", "train", ("*",))
    assert (tmp_path / "model.keras").exists()


def test_runs_of_another_kind_are_refused_and_not_deleted(tmp_path):
    begin(tmp_path, "stability", SETTINGS)
    with pytest.raises(ValueError, match="run='stability' instead of 'train'"):
        begin(tmp_path, "train", SETTINGS)
    with pytest.raises(ValueError, match="--fresh deletes runs of `train`.*'stability'"):
        run_folder.remove_files(tmp_path, "train", ("*",))
    assert (tmp_path / "settings.json").exists()


def test_files_of_others_are_not_overwritten(tmp_path):
    (tmp_path / "model.keras").write_text("mine")
    with pytest.raises(ValueError, match=r"`directory`.*would be overwritten.*'model\.keras'"):
        begin(tmp_path, "train", SETTINGS, ("settings.json", "*.keras"))
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_a_failed_run_may_go_on_with_another_learning_rate(tmp_path):
    class Failed:
        failure = "the loss is nan"

    first, second = ({"learning_rate": rate, "seed": 0} for rate in (1.0, 0.1))
    begin(tmp_path, "train", first)
    with pytest.raises(ValueError, match=r"learning_rate=1\.0 instead of 0\.1"):
        begin(tmp_path, "train", second)
    with pytest.raises(ValueError, match="Training failed: the loss is nan.*goes on"):
        run_folder.check_success(tmp_path, Failed)
    begin(tmp_path, "train", second)
    assert run_folder.read_json(tmp_path / "settings.json")["learning_rate"] == 0.1
    assert run_folder.failures(tmp_path)["failures"][0]["learning_rate"] == 1.0
    with pytest.raises(ValueError, match="seed"):
        begin(tmp_path, "train", {**second, "seed": 1})
    run_folder.write_json(tmp_path / "results.json", {"density": 0.2})
    begin(tmp_path, "train", second)
    with pytest.raises(ValueError, match=r"learning_rate=0\.1 instead of 1\.0"):
        begin(tmp_path, "train", first)


def test_settings_are_compared_without_writing(tmp_path):
    begin(tmp_path, "train", {"learning_rate": 1.0})
    run_folder.write_json(tmp_path / "failures.json", {"failures": [{"learning_rate": 1.0}]})
    content = (tmp_path / "settings.json").read_bytes()
    assert run_folder.compare_settings(tmp_path, "train", {"learning_rate": 1.0})
    assert not run_folder.compare_settings(tmp_path, "train", {"learning_rate": 0.1})
    assert (tmp_path / "settings.json").read_bytes() == content


def test_a_process_that_finds_the_folder_locked_leaves_the_settings(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(ValueError, match="no other process works"),
        run_folder.locked_run(tmp_path, "train", SETTINGS),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_deleting_halfway_leaves_an_unfinished_run(tmp_path, monkeypatch):
    begin(tmp_path, "train", SETTINGS)
    patterns = ("model.keras", "results.json", "settings.json", "ticket.npz")
    for name in patterns:
        (tmp_path / name).touch()
    deleted, unlink = [], pathlib.Path.unlink

    def record(path, **kwargs):
        deleted.append(path.name)
        unlink(path, **kwargs)

    monkeypatch.setattr(pathlib.Path, "unlink", record)
    run_folder.remove_files(tmp_path, "train", patterns)
    assert (deleted[0], deleted[3]) == ("results.json", "settings.json")
    assert not tmp_path.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"density": "x"}', "[" * 100_000])
def test_damaged_results_are_refused(content, tmp_path):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=r"`path`.*results\.json"):
        run_folder.read_results(tmp_path, {"density": float})


HOLD = """
import sys
from tf_lottery.experiments.folder_lock import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_one_process_works_in_a_folder_until_it_ends_or_is_killed(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    # Which is imported faster than TensorFlow.
    backend = "jax" if importlib.util.find_spec("jax") else keras.backend.backend()
    environment = {**os.environ, "KERAS_BACKEND": backend}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    part = tmp_path / f".model.keras.{'0' * 32}.part"
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout.readline() == b"locked\n"
        part.touch()
        with pytest.raises(ValueError, match="no other process works"), locked(tmp_path):
            pass
        assert part.exists()
        process.kill()
    with locked(tmp_path):
        assert not part.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="patches the lock of POSIX")
@pytest.mark.parametrize(
    "number, error, message",
    [
        (errno.EWOULDBLOCK, ValueError, "no other process works"),
        (errno.ENOLCK, OSError, "cannot be locked.*Received"),
    ],
)
def test_only_a_lock_that_is_taken_means_another_process(
    number, error, message, tmp_path, monkeypatch
):
    import fcntl

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(error, match=message), locked(tmp_path):
        pass


@pytest.mark.skipif(os.name != "posix", reason="Windows deletes no open files")
def test_a_lock_file_that_is_deleted_meanwhile_is_made_again(tmp_path, monkeypatch):
    lock, calls = folder_lock._lock, []

    def lock_and_delete(descriptor):
        lock(descriptor)
        if not calls:
            (tmp_path / ".lock").unlink()
        calls.append(descriptor)

    monkeypatch.setattr(folder_lock, "_lock", lock_and_delete)
    with locked(tmp_path):
        assert (tmp_path / ".lock").exists() and len(calls) == 2


def test_digest_tells_arrays_apart():
    arrays = {"a": np.zeros(2), "b": np.ones(2)}
    found = {
        run_folder.digest({"weights": arrays}),
        run_folder.digest({"masks": arrays}),
        run_folder.digest({"weights": {"b": np.zeros(2), "a": np.ones(2)}}),
        run_folder.digest({"weights": {"a": np.zeros(2, "float32"), "b": np.ones(2)}}),
        run_folder.digest({"weights": {"a": np.zeros((2, 1)), "b": np.ones(2)}}),
    }
    assert len(found) == 5 and all(len(text) == 16 for text in found)
    assert run_folder.digest({"weights": dict(arrays)}) in found
