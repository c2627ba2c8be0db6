import keras
import numpy as np
import pytest

from tf_lottery.experiments import data


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
    monkeypatch.setattr(data, "_tfds", read)
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


def batches_of(epochs, **kwargs):
    x = np.arange(10)
    batches = data.ShuffledBatches(x, x, batch_size=3, **kwargs)
    follow = batches.follow_epoch()
    found = []
    for epoch in epochs:
        follow.on_epoch_begin(epoch)
        found.append([batches[i][0].tolist() for i in range(len(batches))])
    return found


def test_order_depends_on_seed_and_epoch_alone():
    in_order = batches_of([0, 1, 2, 3])
    assert batches_of([2]) == [in_order[2]]
    assert batches_of([3, 1]) == [in_order[3], in_order[1]]
    assert in_order[0] != in_order[1]
    assert batches_of([0], seed=1) != [in_order[0]]


def test_a_pass_has_every_example_at_most_once():
    for epoch in batches_of([0, 1]):
        flat = sum(epoch, [])
        assert len(flat) == 9 == len(set(flat))


def test_epochs_cut_one_stream():
    stream = sum(batches_of(range(6)), [])
    assert sum(batches_of(range(9), steps_per_epoch=2), []) == stream
    assert sum(batches_of(range(2), steps_per_epoch=9), []) == stream


def test_follow_epoch_in_fit():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    batches = data.ShuffledBatches(np.ones((6, 1)), np.ones((6, 1)), batch_size=2)
    callbacks = [batches.follow_epoch()]
    model.fit(batches, epochs=3, shuffle=False, callbacks=callbacks, verbose=0)
    assert batches.epoch == 2


@pytest.mark.parametrize("batch_size", [0, 11])
def test_batch_size_out_of_range(batch_size):
    with pytest.raises(ValueError, match=f"between 1 and the 10 .*batch_size={batch_size}"):
        data.ShuffledBatches(np.arange(10), np.arange(10), batch_size)
