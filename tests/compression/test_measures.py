import keras
import numpy as np
import pytest

from tf_lottery.compression.measures import Accuracy, ExplainedVariance, make_measure

SCORES = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], "float32")
NUMBERS = np.array([[0.2, 1.0], [1.7, 2.0], [-3.0, 6.0]], "float32")
OUTPUTS = np.array([[0.0, 1.0], [2.0, 2.5], [-2.0, 5.0]], "float32")


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


def test_accuracy_of_positions(make_model):
    # Two positions of two examples, the last of which is wrong.
    outputs = np.array([[[0.1, 0.9], [0.8, 0.2]], [[0.3, 0.7], [0.4, 0.6]]], "float32")
    accuracy = Accuracy(make_model(), np.array([[1, 0], [1, 0]]), outputs)
    assert accuracy(outputs) == 0.75
    assert accuracy.standard_error(0.5) == pytest.approx(0.25)


def test_explained_variance():
    measure = ExplainedVariance(NUMBERS, OUTPUTS)
    errors, variance = 0, 0
    for column in range(2):
        labels, outputs = NUMBERS[:, column], OUTPUTS[:, column]
        errors += ((labels - outputs) ** 2).sum()
        variance += ((labels - labels.mean()) ** 2).sum()
    assert measure(OUTPUTS) == pytest.approx(1 - errors / variance)
    assert measure(NUMBERS) == 1.0
    assert measure(np.full((3, 2), NUMBERS.mean(axis=0))) == pytest.approx(0.0, abs=1e-6)
    assert measure(np.full((3, 2), np.nan)) == 0.0


def test_standard_error_of_explained_variance():
    # Of 1,000 samples of labels that a model explains to 3/4.
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(1000, 200)) * np.sqrt(3)
    labels = outputs + rng.normal(size=outputs.shape)
    values = 1 - np.mean((labels - outputs) ** 2, axis=1) / 4
    measure = ExplainedVariance(labels[0], outputs[0])
    assert measure.standard_error(0.75) == pytest.approx(values.std(), rel=0.1)


@pytest.mark.parametrize(
    ("loss", "labels", "expected"),
    [
        ("mse", NUMBERS, "ExplainedVariance"),
        (keras.losses.Huber(), NUMBERS, "ExplainedVariance"),
        ({"output": keras.losses.mean_absolute_error}, NUMBERS, "ExplainedVariance"),
        # One-hot rows are classes with any loss.
        ("mse", np.eye(2)[[0, 1, 0]], "Accuracy"),
        ("mse", np.array([0, 1, 0]), "Accuracy"),
        ("sparse_categorical_crossentropy", np.array([0, 1, 0]), "Accuracy"),
        (None, np.array([0, 1, 0]), "Accuracy"),
    ],
)
def test_measure_for_labels(make_model, loss, labels, expected):
    model = make_model()
    model.loss = loss
    assert type(make_measure(model, labels, OUTPUTS)).__name__ == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (NUMBERS[:, :1], r"shape \(3, 1\), outputs of shape \(3, 2\)"),
        (NUMBERS * np.inf, "finite numbers"),
        (np.full((3, 2), 7.0), "labels that differ.* 3 equal labels"),
    ],
)
def test_numbers_that_do_not_fit(labels, message):
    with pytest.raises(ValueError, match=f"`validation` must have .*{message}"):
        ExplainedVariance(labels, OUTPUTS)


def test_a_number_per_example_needs_no_axis():
    labels = np.array([0.0, 2.0])
    for shape in ((2,), (2, 1)):
        assert (
            ExplainedVariance(labels, np.zeros(shape))(np.array([0.0, 1.0]).reshape(shape)) == 0.5
        )
        assert ExplainedVariance(labels[:, None], np.zeros(shape)).labels.shape == shape
