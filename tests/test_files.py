import errno
import os
import pickle
import signal
import stat
import subprocess
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery import files
from tf_lottery.files import atomic


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


@pytest.mark.parametrize("version", [1, 4, "3"])
def test_other_formats_are_refused(version, tmp_path, monkeypatch):
    monkeypatch.setattr("tf_lottery.files.arrays.FORMAT", version)
    files.save_arrays(tmp_path / "other.npz", "thing", {}, {})
    monkeypatch.undo()
    with pytest.raises(ValueError, match=f"`path`.*has format {version}.*reads format 3"):
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


def damage(content, rng):
    """Returns bytes with a part cut off, some bits flipped, or two blocks swapped."""
    kind, content = rng.integers(3), bytearray(content)
    a, b = sorted(rng.integers(0, len(content), 2))
    if kind == 0:
        return bytes(content[:b])
    if kind == 1:
        for position in rng.integers(0, len(content), 1 + a % 4):
            content[position] ^= 1 << rng.integers(8)
        return bytes(content)
    length = min(int(rng.integers(1, 40)), b - a, len(content) - b)
    content[a : a + length], content[b : b + length] = (
        content[b : b + length],
        content[a : a + length],
    )
    return bytes(content)


def test_damaged_tickets_are_refused_or_the_same(tmp_path):
    path, rng = tmp_path / "ticket.npz", np.random.default_rng(0)
    masks = {f"{name}/kernel": rng.random((4, 3)) < 0.5 for name in "ab"}
    weights = {name: rng.normal(size=(4, 3)).astype("float32") for name in masks}
    tfl.Ticket(masks, weights, 2, {"model": "net"}).save(path)
    content, refused = path.read_bytes(), 0
    for _ in range(300):
        path.write_bytes(damage(content, rng))
        try:
            ticket = tfl.Ticket.load(path)
        except ValueError as error:
            assert str(error).startswith("Argument `path`") and str(path) in str(error)
            refused += 1
        else:
            assert (ticket.level, ticket.provenance) == (2, {"model": "net"})
            for name, mask in masks.items():
                np.testing.assert_array_equal(ticket.masks[name], mask)
                np.testing.assert_array_equal(ticket.weights[name], weights[name])
    assert refused > 200


TICKET = {
    "masks": ["a"],
    "shapes": [[2, 3]],
    "weights": ["a"],
    "level": 0,
    "provenance": {},
}


@pytest.mark.parametrize(
    ("metadata", "arrays"),
    [
        ({"shapes": [[10**6, 10**6]]}, {}),
        ({"shapes": [[-2, -3]]}, {}),
        ({"shapes": [[2, 9]]}, {}),
        ({"shapes": "no"}, {}),
        ({"shapes": [["2", 3]]}, {}),
        ({"masks": [3]}, {}),
        ({"masks": ["a", "a"]}, {}),
        ({"level": -1}, {}),
        ({"level": True}, {}),
        ({"provenance": None}, {}),
        ({}, {"mask/0": np.zeros(0, "uint8")}),
        ({}, {"mask/0": np.zeros(1, "float32")}),
        ({}, {"weight/0": np.full((2, 3), np.nan)}),
        ({}, {"weight/0": np.full((2, 3), "x")}),
        ({}, {"weight/0": np.ones((3, 2))}),
        ({}, {"weight/1": np.ones((2, 3))}),
    ],
)
def test_tickets_with_wrong_content_are_refused(metadata, arrays, tmp_path):
    path = tmp_path / "ticket.npz"
    right = {"mask/0": np.packbits(np.ones((2, 3), bool)), "weight/0": np.ones((2, 3))}
    files.save_arrays(path, "ticket", {**right, **arrays}, {**TICKET, **metadata})
    with pytest.raises(ValueError, match=r"`path` must be a ticket file.*ticket\.npz"):
        tfl.Ticket.load(path)


def test_arrays_larger_than_the_file_are_not_allocated(tmp_path):
    path = tmp_path / "thing.npz"
    files.save_arrays(path, "thing", {"a": np.zeros(1000, "uint8")}, {})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    # The header of the array claims a million times as many numbers.
    members["a.npy"] = members["a.npy"].replace(b"(1000,), }      ", b"(1000000000,), }")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="thing.npz.*another size than its shape"):
        files.load_arrays(path, "thing")


def test_headers_of_arrays_that_are_no_python_are_refused(tmp_path):
    path = tmp_path / "thing.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tf_lottery.npy", b"\x93NUMPY\x01\x00\x04\x00{'a\n")
    with pytest.raises(ValueError, match=r"thing\.npz.*damaged"):
        files.load_arrays(path, "thing")


def test_compressed_headers_are_bounded(tmp_path):
    path = tmp_path / "thing.npz"
    for size, message in ((1, "version"), (17, "claims more bytes than the file has")):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("tf_lottery.npy", b"\x93NUMPY\x09\x00" + bytes(size * 2**20))
        with pytest.raises(ValueError, match=message):
            files.load_arrays(path, "thing")


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


def test_links_and_modes_stay(tmp_path):
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    with files.atomic_path(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink() and target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.txt", "target.txt"]


def test_a_full_disk_names_the_file(tmp_path):
    with (
        pytest.raises(OSError, match=r"No space left.*big\.npz"),
        files.atomic_path(tmp_path / "big.npz"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_sweeping_deletes_only_temporary_files(tmp_path):
    kept = ["a.npz", ".hidden.part", ".a.npz.0.part", "b.part"]
    left = [f".a.npz.{'0f' * 16}.part", f".m.keras.{'ab' * 16}.part.keras"]
    for name in (*kept, *left):
        (tmp_path / name).touch()
    files.sweep(tmp_path, is_locked=True)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


def test_sweeping_leaves_what_it_may_not_delete(tmp_path, monkeypatch):
    left = tmp_path / f".a.npz.{'0' * 32}.part"
    left.touch()

    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(left))

    monkeypatch.setattr(type(left), "unlink", refuse)
    files.sweep(tmp_path, is_locked=True)
    assert left.exists()


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_files_that_may_still_be_written_are_left(tmp_path):
    # The module is loaded without its package, which would import Keras.
    code = (
        "import os, runpy, signal\n"
        f"names = runpy.run_path({atomic.__file__!r})\n"
        f"with names['atomic_path']({str(tmp_path / 'killed.npz')!r}):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert [path.name[:12] for path in tmp_path.iterdir()] == [".killed.npz."]
    of_other_machines = [tmp_path / f".a.npz.{letter * 32}.part" for letter in "01"]
    for path in of_other_machines:
        path.touch()
    os.utime(of_other_machines[0], (0, 0))
    with files.atomic_path(tmp_path / "b.npz") as written:
        files.sweep(tmp_path)
        assert set(tmp_path.iterdir()) == {written, of_other_machines[1]}


def test_folders_that_cannot_be_flushed(tmp_path, monkeypatch):
    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse_folders)
    with files.atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("written")
    assert (tmp_path / "a.txt").read_text() == "written"


def test_missing_folder_and_folder_are_os_errors(tmp_path):
    for path in (tmp_path / "missing" / "file", tmp_path):
        with pytest.raises(OSError, match="`path` must .*Received"), files.atomic_path(path):
            pass
