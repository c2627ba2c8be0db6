import keras
import numpy as np
import pytest
from keras import layers, ops

from tf_lottery.retrain import SmoothedCrossentropy, keras_label_smoothing


def smoothed(labels, num_classes, mass):
    """Returns the papers' targets: `1 - mass` on the true class, `mass` on the others."""
    targets = np.full((*labels.shape, num_classes), mass / (num_classes - 1))
    np.put_along_axis(targets, labels[..., None], 1 - mass, axis=-1)
    return targets


def crossentropy(labels, probabilities, mass):
    return -np.sum(smoothed(labels, probabilities.shape[-1], mass) * np.log(probabilities), -1)


def softmax(logits):
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(4, 3, 5)).astype("float32")


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, 5, (4, 3))


@pytest.mark.parametrize(
    "mass, num_classes, expected",
    [(0.1, 10, 0.11111), (0.1, 100, 0.10101), (0.1, 200, 0.10050), (0.5, 2, 1.0), (0, 7, 0)],
)
def test_the_value_for_keras(mass, num_classes, expected):
    value = keras_label_smoothing(mass, num_classes)
    assert value == pytest.approx(expected, abs=5e-6)
    labels = np.arange(num_classes)
    of_keras = np.eye(num_classes) * (1 - value) + value / num_classes
    np.testing.assert_allclose(of_keras, smoothed(labels, num_classes, mass), atol=1e-12)


def test_keras_loss_with_this_value_is_the_same_loss(logits, labels):
    of_keras = keras.losses.CategoricalCrossentropy(True, keras_label_smoothing(0.1, 5))
    ours = SmoothedCrossentropy(0.1, from_logits=True)
    assert float(ours(labels, logits)) == float(of_keras(np.eye(5)[labels], logits))


@pytest.mark.parametrize("mass", [0.0, 0.1, 0.8])
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("form", ["integers", "last axis of 1", "one-hot"])
def test_losses_at_every_position(form, from_logits, mass, logits, labels):
    probabilities = softmax(logits)
    given = {
        "integers": labels.astype("int32"),
        "last axis of 1": labels[..., None],
        "one-hot": np.eye(5)[labels],
    }[form]
    loss = SmoothedCrossentropy(mass, from_logits=from_logits, reduction=None)
    losses = loss(given, logits if from_logits else probabilities)
    np.testing.assert_allclose(losses, crossentropy(labels, probabilities, mass), rtol=1e-5)


def test_labels_of_one_axis(logits, labels):
    loss = SmoothedCrossentropy(0.2, from_logits=True)
    expected = crossentropy(labels[:, 0], softmax(logits[:, 0]), 0.2).mean()
    assert float(loss(labels[:, 0], logits[:, 0])) == pytest.approx(expected, rel=1e-5)


def test_mixed_labels_are_smoothed_in_proportion(logits):
    """A label of half one class and half another has the mean loss of the two."""
    loss = SmoothedCrossentropy(0.1, from_logits=True)
    one, other = np.eye(5)[[[0, 1, 2]] * 4], np.eye(5)[[[3, 3, 4]] * 4]
    mean = (float(loss(one, logits)) + float(loss(other, logits))) / 2
    assert float(loss((one + other) / 2, logits)) == pytest.approx(mean, rel=1e-5)


@pytest.mark.backend
def test_sample_weights_and_masks(logits, labels):
    weights = np.arange(12.0).reshape(4, 3)
    expected = crossentropy(labels, softmax(logits), 0.1)
    loss = SmoothedCrossentropy(0.1, from_logits=True)
    value = loss(labels, logits, sample_weight=weights)
    assert float(value) == pytest.approx((expected * weights).mean(), rel=1e-5)
    masked = layers.Masking()(np.concatenate([logits[:, :2], np.zeros((4, 1, 5))], 1))
    assert float(loss(labels, masked)) == pytest.approx(expected[:, :2].mean(), rel=1e-5)


def test_the_default_mass_and_example():
    loss = SmoothedCrossentropy()
    expected = -(0.9 * np.log(0.9) + 0.1 * np.log(0.05))
    value = loss(np.array([2]), np.array([[0.05, 0.05, 0.9]]))
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert f"{expected:.4f}" == "0.3944"


def test_integers_that_are_no_class_are_not_lost(logits):
    loss = SmoothedCrossentropy(0.1, from_logits=True, reduction=None)
    losses = ops.convert_to_numpy(loss(np.array([[0, 5, -1]] * 4), logits))
    np.testing.assert_array_equal(np.isnan(losses), [[False, True, True]] * 4)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"], indirect=True)
def test_training_saving_and_loading(precision, tmp_path, logits, labels):
    model = keras.Sequential([keras.Input((3, 5)), layers.Dense(5, "softmax")])
    model.compile("sgd", SmoothedCrossentropy(0.3, name="smooth"))
    model.fit(logits, labels, sample_weight=np.ones((4, 3)), verbose=0)
    value = model.evaluate(logits, labels, verbose=0)
    probabilities = ops.convert_to_numpy(ops.cast(model(logits), "float32"))
    assert value == pytest.approx(crossentropy(labels, probabilities, 0.3).mean(), rel=1e-3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.loss.mass, loaded.loss.name) == (0.3, "smooth")
    assert loaded.evaluate(logits, labels, verbose=0) == value


def test_configuration():
    loss = SmoothedCrossentropy(0.2, True, "sum", "other", "bfloat16")
    config = keras.losses.serialize(loss)
    assert config["registered_name"] == "tf_lottery>SmoothedCrossentropy"
    again = keras.losses.deserialize(config)
    assert again.get_config() == loss.get_config()
    assert loss.get_config() == {
        "mass": 0.2,
        "from_logits": True,
        "reduction": "sum",
        "name": "other",
        "dtype": "bfloat16",
    }


@pytest.mark.parametrize("mass", [-0.1, 1.0, True, "0.1"])
def test_masses_outside_their_range(mass):
    for make in (SmoothedCrossentropy, lambda mass: keras_label_smoothing(mass, 10)):
        with pytest.raises(ValueError, match="`mass` must be .*Received: mass="):
            make(mass)


@pytest.mark.parametrize("num_classes", [1, 0, 2.0, True, None])
def test_numbers_of_classes_outside_their_range(num_classes):
    with pytest.raises(ValueError, match="`num_classes` must be an integer > 1. Received"):
        keras_label_smoothing(0.1, num_classes)


def test_calls_that_do_not_fit(logits, labels):
    with pytest.raises(ValueError, match="`mass` must be at most 0.5 for 2 classes.*mass=0.6"):
        keras_label_smoothing(0.6, 2)
    with pytest.raises(ValueError, match="`mass` must be at most 0.8 for 5 classes.*mass=0.9"):
        SmoothedCrossentropy(0.9)(labels, logits)
    with pytest.raises(ValueError, match=r"two classes or more. Received: .*\(4, 1\)"):
        SmoothedCrossentropy()(np.zeros(4), np.ones((4, 1)))
    with pytest.raises(ValueError, match=r"labels that are integers.*\(4, 3, 4\).*\(4, 3, 5\)"):
        SmoothedCrossentropy()(np.zeros((4, 3, 4)), logits)
