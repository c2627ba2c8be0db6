import keras
import numpy as np
import pytest

from tf_lottery.compression.examples import read_examples


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 2

    def __getitem__(self, index):
        part = slice(12 * index, 12 * index + 12)
        return self.x[part], self.y[part]


def test_data_sets_are_read_in_order(make_model, make_data):
    x, y = make_data()
    found = read_examples("train", Batches(x, y), make_model())
    np.testing.assert_array_equal(found.x, x)
    np.testing.assert_array_equal(found.y, y)


def test_inputs_alone(make_model, make_data):
    x, _ = make_data()
    assert read_examples("train", x, make_model(), needs_labels=False).y is None
    with pytest.raises(ValueError, match="`train` must be a tuple .* without labels"):
        read_examples("train", x, make_model())
    for nothing in (None, (None, np.zeros(3))):
        with pytest.raises(ValueError, match=r"`train` must be arrays .* \(None\)"):
            read_examples("train", nothing, make_model(), needs_labels=False)


def test_labels_of_several_outputs_are_refused(make_model, make_data):
    x, y = make_data()
    with pytest.raises(ValueError, match=r"one array of labels, .* labels of \['a', 'b'\]"):
        read_examples("train", (x, {"b": y, "a": y}), make_model())


def test_sample_weights_are_refused(make_model, make_data):
    x, y = make_data()
    for data in ((x, y, np.ones(24)), iter([(x, y, np.ones(24))])):
        with pytest.raises(ValueError, match="`train` must have no sample weights"):
            read_examples("train", data, make_model(), refuses_weights=True)
    assert len(read_examples("train", (x, y, None), make_model(), refuses_weights=True)) == 24


def test_data_that_do_not_fit_the_model(make_model, make_data):
    x, y = make_data()
    with pytest.raises(ValueError, match=r"`train` .*\(None, 6\) float32.*\(24, 5\) float32"):
        read_examples("train", (x[:, :5], y), make_model())
    with pytest.raises(ValueError, match="24 examples and 23 labels"):
        read_examples("train", (x, y[1:]), make_model())


def test_chosen_examples_depend_on_the_seed(make_model, make_data):
    found = read_examples("train", make_data(), make_model())
    first, again, other = (found.chosen(5, seed).arrays[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (5, 6) and not np.array_equal(first, other)
