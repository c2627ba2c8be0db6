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


def test_tiny_imagenet_by_name(tmp_path):
    image = pytest.importorskip("PIL.Image")
    with pytest.raises(OSError, match=r"must be the folder tiny-imagenet-200 of http.*: None"):
        load("tiny_imagenet")
    root = tmp_path / "tiny-imagenet-200"
    for kind, grey in (("n02", 51), ("n01", 102)):
        folder = root / "train" / kind / "images"
        folder.mkdir(parents=True)
        (folder.parent / f"{kind}_boxes.txt").write_text(f"{kind}_0.JPEG\t0\t0\t9\t9\n")
        for i in range(5):
            # A few images of TinyImageNet are grey.
            image.new("L" if i else "RGB", (64, 64), grey if i else (grey,) * 3).save(
                folder / f"{kind}_{i}.JPEG"
            )
    (root / "val" / "images").mkdir(parents=True)
    for i in range(3):
        image.new("RGB", (64, 64), (255 * (i == 1),) * 3).save(root / f"val/images/val_{i}.JPEG")
    with pytest.raises(OSError, match=f"--data-dir.*val_annotations.txt. Received: {root}"):
        load("tiny_imagenet", root)
    labels = root / "val" / "val_annotations.txt"
    # In another order than that of the names.
    labels.write_text("".join(f"val_{i}.JPEG\tn0{i}\t0\t9\t9\t9\n" for i in (2, 1)))
    data = load("tiny_imagenet", tmp_path)
    assert [len(y) for _, y in (data.train, data.validation, data.test)] == [9, 1, 2]
    assert (data.num_classes, data.input_shape) == (2, (64, 64, 3))
    x, y = (np.concatenate(pair) for pair in zip(data.train, data.validation, strict=True))
    np.testing.assert_allclose(x.mean((1, 2, 3)), np.where(y, 0.2, 0.4), atol=0.01)
    x, y = data.test
    assert (x[:, 0, 0, 0].tolist(), y.tolist()) == ([0.0, 1.0], [1, 0])
    labels.write_text("val_0.JPEG\tn03\n")
    with pytest.raises(ValueError, match="one of the 2 classes in `train`.*'n03'"):
        load("tiny_imagenet", tmp_path)
    labels.write_text("")
    with pytest.raises(ValueError, match=f"a line for every image.*an empty file '{labels}'"):
        load("tiny_imagenet", tmp_path)
