import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.experiments.compiling import compile_classifier
from tf_lottery.experiments.data import Data
from tf_lottery.experiments.own_network import load_network

CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy


@pytest.fixture
def own(tmp_path):
    """Returns a function that saves a network of four inputs and returns its path."""

    def save(units, activation=None, **compiled):
        dense = keras.layers.Dense(units, activation, name="output")
        model = keras.Sequential([keras.Input((4,)), dense])
        if compiled:
            model.compile("sgd", **compiled)
        model.save(tmp_path / "own.keras")
        return str(tmp_path / "own.keras")

    return save


def data_of(classes, features=4):
    x = np.random.default_rng(0).normal(size=(30, features)).astype("float32")
    part = (x, (np.arange(30) % classes).astype("int32"))
    return Data("own.npz", part, part, part, digest="0")


@pytest.mark.parametrize(
    ("units", "activation", "loss", "expected", "logits"),
    [
        (3, None, None, CROSSENTROPY, True),
        (3, "softmax", "CategoricalCrossentropy", CROSSENTROPY, False),
        (3, "softmax", None, CROSSENTROPY, False),
        (1, None, None, keras.losses.BinaryCrossentropy, True),
        (1, "sigmoid", None, keras.losses.BinaryCrossentropy, False),
        (1, "sigmoid", "binary_crossentropy", keras.losses.BinaryCrossentropy, False),
        (3, "softmax", "categorical_crossentropy", CROSSENTROPY, False),
        (3, None, keras.losses.CategoricalCrossentropy(from_logits=True), CROSSENTROPY, True),
        (3, None, CROSSENTROPY(from_logits=True), CROSSENTROPY, True),
    ],
)
def test_loss(own, units, activation, loss, expected, logits):
    compiled = {} if loss is None else {"loss": loss}
    model = load_network(own(units, activation, **compiled), data_of(min(units, 1) + 1))
    assert type(model.loss) is expected
    assert model.loss.get_config()["from_logits"] == logits


def test_loss_and_metrics_reach_the_training(own):
    path = own(
        1, loss=keras.losses.BinaryFocalCrossentropy(from_logits=True), metrics=["acc", "mae"]
    )
    data = data_of(2)
    sparse = tfl.sparsify(load_network(path, data), 0.5)
    compile_classifier(sparse, keras.optimizers.SGD(0.1))
    assert type(sparse.loss) is keras.losses.BinaryFocalCrossentropy
    found = sparse.evaluate(*data.train, verbose=0, return_dict=True)
    above = sparse.predict(data.train[0], verbose=0)[:, 0] > 0
    # Logits are compared with 0, and not with a half.
    assert found["accuracy"] == pytest.approx((above == data.train[1]).mean())
    assert set(found) == {"loss", "accuracy", "mae"}
    assert tfl.strip(sparse).loss.get_config()["from_logits"]


def test_a_sparse_file_is_stripped(own, tmp_path):
    sparse = tfl.sparsify(keras.saving.load_model(own(3)), 0.5)
    sparse.save(tmp_path / "sparse.keras")
    model = load_network(str(tmp_path / "sparse.keras"), data_of(3))
    assert not isinstance(model, tfl.SparseModel)
    assert np.count_nonzero(model.get_weights()[0]) == 6


@pytest.mark.parametrize(
    ("units", "data", "message"),
    [
        (3, data_of(3, features=5), r"`data` .*\(None, 4\) float32.*\(1, 5\) float32"),
        (2, data_of(3), "labels from 0 to 1, for the 2 outputs .* labels from 0 to 2"),
        (1, data_of(3), "labels from 0 to 1, for the 1 outputs"),
    ],
)
def test_data_that_do_not_fit(own, units, data, message):
    with pytest.raises(ValueError, match=message):
        load_network(own(units), data)


def test_label_smoothing_is_refused(own):
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    with pytest.raises(ValueError, match="without label smoothing.*label_smoothing=0.1"):
        load_network(own(3, "softmax", loss=loss), data_of(3))


@pytest.mark.parametrize("loss", ["mse", keras.losses.CategoricalFocalCrossentropy()])
def test_losses_of_one_hot_labels_are_refused(own, loss):
    name = "mean_squared_error" if loss == "mse" else loss.name
    with pytest.raises(ValueError, match=f"a loss for class numbers.*Received: loss='{name}'"):
        load_network(own(3, "softmax", loss=loss), data_of(3))


def test_outputs_that_are_no_classes(tmp_path):
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(2)(inputs), keras.layers.Dense(3)(inputs)]
    keras.Model(inputs, outputs).save(tmp_path / "two.keras")
    with pytest.raises(ValueError, match=r"one finite output.*\(None, 2\), shape \(None, 3\)"):
        load_network(str(tmp_path / "two.keras"), data_of(2))
