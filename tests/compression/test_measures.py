import keras
import numpy as np
import pytest

from tf_lottery.compression.measures import ExplainedVariance, make_measure

NUMBERS = np.array([[0.2, 1.0], [1.7, 2.0], [-3.0, 6.0]], "float32")
OUTPUTS = np.array([[0.0, 1.0], [2.0, 2.5], [-2.0, 5.0]], "float32")


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
