import io
import zipfile

import numpy as np
import pytest

from tf_lottery.export import flatbuffer, sparsify_flatbuffer, trailing_bytes

LABELS = {"labels.txt": b"cat\ndog\n", "other/vocabulary.txt": 50 * b"word\n"}


@pytest.fixture
def content(dense_file, pruned):
    return dense_file(pruned((64, 32), 0.9))


def with_archive(content):
    """Returns the file with label files behind it, as TFLite's metadata library writes them."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        for name, data in LABELS.items():
            archive.writestr(name, data)
    return file.getvalue()


def archived(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_associated_files_are_kept(content, run_file):
    packed = sparsify_flatbuffer(with_archive(content))
    assert len(packed) < 0.7 * len(content) and archived(packed) == LABELS
    end = packed.rindex(b"PK\5\6")
    start, size = (int.from_bytes(packed[end + i : end + i + 4], "little") for i in (16, 12))
    # Readers that do not look for the archive's beginning find its directory too.
    assert start + size == end and packed[start : start + 4] == b"PK\1\2"
    x = np.ones((1, 64), "float32")
    np.testing.assert_array_equal(run_file(packed, x), run_file(content, x))
    assert archived(sparsify_flatbuffer(packed)) == LABELS


def test_archive_with_positions_of_its_own_is_kept_as_it_is(content):
    archive = with_archive(b"")
    packed = sparsify_flatbuffer(content + archive)
    assert packed.endswith(archive) and archived(packed) == LABELS


@pytest.mark.parametrize("trailing", [b"x", b"license", bytes(5) + b"text" + bytes(3)])
def test_other_bytes_are_kept(trailing, content):
    packed = sparsify_flatbuffer(content + trailing)
    assert len(packed) < 0.7 * len(content) and packed.endswith(trailing.lstrip(b"\0"))
    assert flatbuffer.read_model(content).trailing == b""


def test_bytes_behind_weights_outside_the_flatbuffer(content, quantize_file):
    quantized = quantize_file(content, "float16")
    assert flatbuffer.read_model(quantized).trailing == b""
    packed = sparsify_flatbuffer(with_archive(quantized))
    assert len(packed) < len(quantized) and archived(packed) == LABELS


def test_damaged_archives_stay_as_they_are():
    trailing = bytearray(with_archive(bytes(100))[100:])
    entry = trailing.index(b"PK\1\2")
    # The archive moves 96 bytes ahead: a file at 50 would lie before the beginning.
    trailing[entry + 42 : entry + 46] = (50).to_bytes(4, "little")
    assert trailing_bytes.append_trailing(b"", bytes(trailing), 100) == bytes(4) + trailing
