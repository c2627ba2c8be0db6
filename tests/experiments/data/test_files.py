import gzip

import numpy as np
import pytest

from tf_lottery.experiments.data import load
from tf_lottery.experiments.data.files import read_idx


@pytest.mark.parametrize("missing", [1, 12])
def test_a_truncated_file_is_refused(tmp_path, missing):
    content = gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    (tmp_path / "labels.gz").write_bytes(content[:-missing])
    with pytest.raises(ValueError, match="`path` must be an IDX file"):
        read_idx(tmp_path / "labels.gz")


def test_fashion_mnist_by_name(tmp_path):
    for part, count in (("train", 5003), ("t10k", 2)):
        for name, shape in (("images-idx3", (count, 1, 2)), ("labels-idx1", (count,))):
            header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes()
            content = (np.arange(np.prod(shape)) % 10).astype("uint8").tobytes()
            with gzip.open(tmp_path / f"{part}-{name}-ubyte.gz", "wb") as file:
                file.write(header + content)
    data = load("fashion_mnist", tmp_path)
    assert [len(y) for _, y in (data.train, data.validation, data.test)] == [3, 5000, 2]
    np.testing.assert_allclose(data.test[0][1].ravel(), [2 / 255, 3 / 255], rtol=1e-6)


def test_gestures_by_name(tmp_path):
    rng = np.random.default_rng(0)
    series = [rng.normal(3, 2, (192 if i else 128, 6)) for i in range(10)]
    found = {"X": series, "y": np.arange(10) % 7, "subject": np.arange(10) + 1}
    np.save(tmp_path / "watch_dataset.npy", found, allow_pickle=True)
    for folder in (tmp_path, tmp_path / "watch_dataset.npy"):
        data = load("gestures", folder)
        # Subjects 9, and 4 and 10, have two windows each, the first subject one.
        sizes = [len(y) for _, y in (data.train, data.validation, data.test)]
        assert (sizes, data.input_shape) == ([13, 2, 4], (128, 6))
        np.testing.assert_allclose(data.train[0].mean((0, 1)), 0, atol=1e-5)
