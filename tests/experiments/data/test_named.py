import numpy as np
import pytest

from tf_lottery.experiments import data
from tf_lottery.experiments.data import named


def test_digits_are_split_into_three_parts_without_overlap():
    digits = data.load("digits")
    sizes = [len(y) for _, y in (digits.train, digits.validation, digits.test)]
    assert sizes == [1197, 300, 300]
    assert digits.input_shape == (8, 8, 1)
    assert digits.num_classes == 10
    images = np.concatenate([digits.train[0], digits.validation[0], digits.test[0]])
    assert images.min() == 0.0 and images.max() == 1.0 and images.dtype == "float32"
    assert len(np.unique(images, axis=0)) == 1797


def test_split_depends_on_the_seed_alone():
    first, again, other = data.load("digits"), data.load("digits"), data.load("digits", seed=1)
    np.testing.assert_array_equal(first.validation[0], again.validation[0])
    assert not np.array_equal(first.validation[1], other.validation[1])
    np.testing.assert_array_equal(first.test[0], other.test[0])


def test_images_are_scaled_and_split(monkeypatch, tmp_path):
    def read(*arguments, **kwargs):
        asked.append((arguments, kwargs))
        images = np.arange(5100 * 4).reshape(-1, 2, 2, 1) % 256
        return [(images[:size].astype("uint8"), np.arange(size) % 10) for size in (5100, 30)]

    asked = []
    monkeypatch.setattr(named, "read_splits", read)
    loaded = data.load("mnist", tmp_path, download=True)
    arguments = ("mnist", ["train", "test"], tmp_path, True)
    assert asked == [(arguments, {"as_supervised": True})]
    sizes = [len(y) for _, y in (loaded.train, loaded.validation, loaded.test)]
    assert sizes == [100, 5000, 30]
    x, y = loaded.test
    assert (x.dtype, y.dtype) == ("float32", "int32")
    np.testing.assert_allclose(x[0].ravel() * 255, [0, 1, 2, 3], rtol=1e-6)
    np.testing.assert_array_equal(y, np.arange(30) % 10)


@pytest.mark.thorough("reads all images")
@pytest.mark.parametrize(
    ("name", "shape", "sizes"),
    [
        ("mnist", (28, 28, 1), [55000, 5000, 10000]),
        ("cifar10", (32, 32, 3), [45000, 5000, 10000]),
    ],
)
def test_tfds(tfds_dir, name, shape, sizes):
    if not (tfds_dir / name).is_dir():
        pytest.skip(f"{name} is not in {tfds_dir}")
    loaded = data.load(name, tfds_dir)
    assert loaded.input_shape == shape
    assert loaded.num_classes == 10
    assert [len(y) for _, y in (loaded.train, loaded.validation, loaded.test)] == sizes
    assert loaded.train[0].max() == 1.0


def test_tiny_shakespeare(tfds_dir):
    if not (tfds_dir / "tiny_shakespeare").is_dir():
        pytest.skip(f"tiny_shakespeare is not in {tfds_dir}")
    loaded = data.load("tiny_shakespeare", tfds_dir)
    x, y = loaded.train
    assert loaded.input_shape == (100,) and x.shape == y.shape == (10038, 100)
    assert [len(part[0]) for part in (loaded.validation, loaded.test)] == [557, 557]
    assert loaded.num_classes == 65
    assert "".join(loaded.vocabulary[i] for i in x[0, :14]) == "First Citizen:"
    np.testing.assert_array_equal(x.ravel()[1:], y.ravel()[:-1])


def test_classes_of_a_text_are_its_characters():
    part = (np.zeros((2, 3), "int32"), np.zeros((2, 3), "int32"))
    text = data.Data("text", part, part, part, vocabulary="abc")
    assert (text.input_shape, text.num_classes) == ((3,), 3)


def test_unknown_name():
    with pytest.raises(ValueError, match="`name` must be one of .*digits.* Received: 'minst'"):
        data.load("minst")


@pytest.mark.parametrize("name", ["mnist", "tiny_shakespeare"])
def test_missing_data_set_names_the_folder_and_the_way_out(tmp_path, name):
    with pytest.raises(OSError, match=f"holds '{name}'.*--download.*Received: {tmp_path}"):
        data.load(name, tmp_path)


def image_data(pixels=4, channels=1):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (20, pixels, pixels, channels)).astype("float32")
    labels = np.arange(20) % 3
    parts = ((images[a:b], labels[a:b]) for a, b in ((0, 10), (10, 15), (15, 20)))
    return data.Data("images", *parts)


def test_pixels_of_smaller_images_are_means_of_blocks():
    image = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    part = image, np.zeros(1, "int32")
    small = data.Data("images", part, part, part).resized(2)
    # 0, 1, 4 and 5 have the mean 2.5.
    np.testing.assert_array_equal(small.test[0][0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])
    assert small.settings == {"dataset": "images", "image_size": 2}
    np.testing.assert_array_equal(small.train[1], part[1])


def test_images_are_normalized_by_the_training_examples():
    plain = image_data(channels=3)
    normalized = plain.normalized()
    x = plain.train[0].astype("float64")
    for channel in range(3):
        mean, deviation = x[..., channel].mean(), x[..., channel].std()
        expected = (plain.test[0][..., channel] - mean) / deviation
        np.testing.assert_allclose(normalized.test[0][..., channel], expected, atol=1e-5)
        assert normalized.normalization[0][channel] == pytest.approx(mean, rel=1e-5)
    assert normalized.train[0].dtype == "float32"
    assert normalized.settings == {"dataset": "images", "normalize": True}
    assert plain.settings == {"dataset": "images"}


def test_load_resizes_before_it_normalizes():
    digits = data.load("digits", image_size=4, normalize=True)
    assert digits.input_shape == (4, 4, 1)
    assert digits.train[0].mean() == pytest.approx(0, abs=1e-5)
    assert digits.train[0].std() == pytest.approx(1, abs=1e-5)


def test_inputs_that_cannot_be_resized_or_normalized():
    part = (np.zeros((2, 3), "int32"), np.zeros((2, 3), "int32"))
    text = data.Data("text", part, part, part, vocabulary="abc")
    for size in (3, 8):
        with pytest.raises(ValueError, match=f"`size` must divide .*size={size} .*images"):
            image_data().resized(size)
    with pytest.raises(ValueError, match="`size` must divide .* 'text'"):
        text.resized(1)
    for inputs in (text, image_data().normalized()):
        with pytest.raises(ValueError, match="`normalize` needs images"):
            inputs.normalized()
