import keras
import numpy as np
import pytest

from tf_lottery.compression.examples import Accuracy, read_examples

SCORES = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], "float32")


@pytest.mark.parametrize(
    "labels", [[1, 0, 0], [[1], [0], [0]], [1.0, 0.0, 0.0], [[0, 1], [1, 0], [1, 0]]]
)
def test_accuracy_of_classes(make_model, labels):
    accuracy = Accuracy(make_model(), np.array(labels), SCORES)
    assert accuracy(SCORES) == pytest.approx(2 / 3)
    assert accuracy.standard_error(0.5) == pytest.approx((0.25 / 3) ** 0.5)
    assert accuracy(np.full_like(SCORES, np.nan)) == 0.0


@pytest.mark.parametrize(("from_logits", "expected"), [(True, 1.0), (False, 0.5)])
def test_threshold_of_one_output(make_model, from_logits, expected):
    model = make_model()
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=from_logits))
    outputs = np.array([[0.2], [-0.2]], "float32")
    assert Accuracy(model, np.array([1, 0]), outputs)(outputs) == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 0], "from 0 to 1, for the 2 outputs .* labels from 0 to 2"),
        ([1, -1, 0], "labels from -1 to 1"),
        ([1.0, 0.5, 0.0], "labels from 0.0 to 1.0"),
        ([[1, 0, 0]] * 3, r"labels of shape \(3, 3\).* outputs of shape \(3, 2\)"),
        (["a", "b", "a"], "and type <U1"),
    ],
)
def test_labels_that_do_not_fit(make_model, labels, message):
    with pytest.raises(ValueError, match=message):
        Accuracy(make_model(), np.array(labels), SCORES)


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
