import pickle

import ml_dtypes
import numpy as np
import pytest

from tf_lottery import files


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "thing.npz"
    files.save_arrays(path, "thing", {"a/0": np.arange(3)}, {"note": "x"})
    return path


def test_arrays_and_metadata_come_back(written):
    arrays, metadata = files.load_arrays(written, "thing")
    np.testing.assert_array_equal(arrays["a/0"], [0, 1, 2])
    assert metadata == {"note": "x"}


def test_bfloat16_comes_back(tmp_path):
    values = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    files.save_arrays(tmp_path / "b.npz", "thing", {"b": values}, {})
    loaded = files.load_arrays(tmp_path / "b.npz", "thing")[0]["b"]
    assert loaded.dtype == values.dtype
    np.testing.assert_array_equal(loaded, values)


def test_other_kind_is_refused(written):
    with pytest.raises(ValueError, match="must be a ticket file.*a thing file"):
        files.load_arrays(written, "ticket")


@pytest.mark.parametrize("version", [1, 3, "2"])
def test_other_formats_are_refused(version, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FORMAT", version)
    files.save_arrays(tmp_path / "other.npz", "thing", {}, {})
    monkeypatch.undo()
    with pytest.raises(ValueError, match=f"`path`.*has format {version}.*reads format 2"):
        files.load_arrays(tmp_path / "other.npz", "thing")


@pytest.mark.parametrize("size", [0, 1, 10, 100, -1])
def test_truncated_file_is_refused(size, written):
    content = written.read_bytes()
    written.write_bytes(content[:size])
    with pytest.raises(ValueError, match="`path` must be a thing file.*Received"):
        files.load_arrays(written, "thing")


def test_every_flipped_byte_is_refused_or_harmless(written):
    content = written.read_bytes()
    for position in range(0, len(content), 7):
        written.write_bytes(content[:position] + b"\xff" + content[position + 1 :])
        try:
            arrays, _ = files.load_arrays(written, "thing")
        except ValueError as error:
            assert str(error).startswith("Argument `path`")
        else:
            np.testing.assert_array_equal(arrays["a/0"], [0, 1, 2])


def test_files_of_other_programs_are_refused(tmp_path):
    path = tmp_path / "foreign.npz"
    for write in (
        lambda: np.savez(path, a=np.ones(3)),
        lambda: path.write_text("hello"),
        lambda: np.save(path.open("wb"), np.ones(3)),
    ):
        write()
        with pytest.raises(ValueError, match="must be a thing file.*Received"):
            files.load_arrays(path, "thing")


def test_pickles_are_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = tmp_path / "trap.npz"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="Received"):
        files.load_arrays(path, "thing")
    np.savez(path, tf_lottery=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match="Received"):
        files.load_arrays(path, "thing")
    assert not (tmp_path / "sprung").exists()


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.load_arrays(tmp_path / "nothing.npz", "thing")


def test_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder_and_folder_are_os_errors(tmp_path):
    for path in (tmp_path / "missing" / "file", tmp_path):
        with pytest.raises(OSError, match="`path` must .*Received"), files.atomic_path(path):
            pass
