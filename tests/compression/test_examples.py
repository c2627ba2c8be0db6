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


def test_standard_error_is_never_zero(make_model):
    accuracy = Accuracy(make_model(), np.array([1, 0, 1]), SCORES)
    # One more right and one more wrong: 4 of 5.
    assert accuracy.standard_error(1.0) == pytest.approx((0.8 * 0.2 / 3) ** 0.5)


@pytest.mark.parametrize(
    ("losses", "outputs", "expected"),
    [
        ("binary_crossentropy", [0.7, 0.2], 1.0),
        (keras.losses.BinaryCrossentropy(from_logits=True), [0.7, 0.2], 0.5),
        ([keras.losses.BinaryCrossentropy(from_logits=True)], [0.7, 0.2], 0.5),
        # Outputs that are no probabilities are logits.
        (None, [0.2, -0.2], 1.0),
    ],
)
def test_threshold_of_one_output(make_model, losses, outputs, expected):
    model, outputs = make_model(), np.array(outputs, "float32")
    model.loss = losses
    assert Accuracy(model, np.array([1, 0]), outputs[:, None])(outputs[:, None]) == expected
    # A model may have a number per example, without an axis.
    assert Accuracy(model, np.array([1, 0]), outputs)(outputs) == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 0], "from 0 to 1, for the 2 outputs .* labels from 0 to 2"),
        ([1, -1, 0], "labels from -1 to 1"),
        ([1.0, 0.5, 0.0], "labels from 0.0 to 1.0"),
        ([[1, 0, 0]] * 3, r"labels of shape \(3, 3\).* outputs of shape \(3, 2\)"),
        (["a", "b", "a"], "and type <U1"),
        ([[1, 1], [1, 0], [0, 0]], "but the rows are not one-hot"),
        ([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], "but the rows are not one-hot"),
    ],
)
def test_labels_that_do_not_fit(make_model, labels, message):
    with pytest.raises(ValueError, match=message):
        Accuracy(make_model(), np.array(labels), SCORES)


def test_training_labels(make_model):
    accuracy = Accuracy(make_model(), np.array([1, 0, 1]), SCORES)
    accuracy.check_training_labels(np.array([1, 0]))
    accuracy.check_training_labels(np.full((5, 2), 0.5))
    with pytest.raises(ValueError, match="`train` .* labels from 1 to 2"):
        accuracy.check_training_labels(np.array([1, 2]))


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


def test_accuracy_of_positions(make_model):
    # Two positions of two examples, the last of which is wrong.
    outputs = np.array([[[0.1, 0.9], [0.8, 0.2]], [[0.3, 0.7], [0.4, 0.6]]], "float32")
    accuracy = Accuracy(make_model(), np.array([[1, 0], [1, 0]]), outputs)
    assert accuracy(outputs) == 0.75
    assert accuracy.standard_error(0.5) == pytest.approx(0.25)


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
