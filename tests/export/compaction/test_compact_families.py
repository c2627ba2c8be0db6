"""Compaction keeps the outputs of all families of models at all sparsities."""

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.experiments import models

SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)


def vgg():
    model = keras.Sequential([keras.Input((8, 8, 3))])
    for filters in (8, 16):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D(2))
    model.add(layers.Flatten())
    model.add(layers.Dense(24, "relu"))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(5))
    return model


def recurrent(kind):
    inputs = keras.Input((6, 7))
    x = layers.Dense(12, "relu")(inputs)
    x = kind(9, return_sequences=True)(x)
    x = layers.Dense(10, "relu")(kind(8)(x))
    return keras.Model(inputs, layers.Dense(5)(x))


def transformer():
    inputs = keras.Input((5, 8))
    x = layers.LayerNormalization()(inputs)
    x = inputs + layers.MultiHeadAttention(2, 4)(x, x)
    y = layers.Dense(32, "gelu")(layers.LayerNormalization()(x))
    x = layers.Add()([x, layers.Dropout(0.1)(layers.Dense(8)(y))])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(5)(x))


def inception():
    inputs = x = keras.Input((8, 8, 3))
    for filters in (6, 9):
        a = layers.Conv2D(filters, 1, activation="relu")(x)
        b = layers.Conv2D(filters, 3, padding="same", activation="sigmoid")(a)
        c = layers.Conv2D(filters, 1)(layers.AveragePooling2D(3, 1, padding="same")(x))
        x = layers.MaxPooling2D(2)(layers.Concatenate()([a, b, c]))
        x = layers.BatchNormalization()(x)
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, layers.Dense(5)(x))


def odd_widths():
    widths = [keras.Input((28,)), *(layers.Dense(n, "tanh") for n in (302, 30, 28, 13))]
    return keras.Sequential([*widths, layers.Dense(5)])


def mobilenet():
    return models.mobilenet_v1((32, 32, 3), 5, seed=0, width=0.25)


FAMILIES = {
    "lenet": (lambda: models.lenet_300_100(seed=0), SPARSITIES),
    "vgg": (vgg, SPARSITIES),
    "mobilenet": (mobilenet, (0.5, 0.9, 0.98)),
    "lstm": (lambda: recurrent(layers.LSTM), SPARSITIES),
    "gru": (lambda: recurrent(layers.GRU), SPARSITIES),
    "transformer": (transformer, SPARSITIES),
    "resnet": (lambda: models.resnet_20((8, 8, 3), 5, seed=0), (0.5, 0.95, 0.99)),
    "inception": (inception, SPARSITIES),
    "odd widths": (odd_widths, SPARSITIES),
}
# Each sparsity is tested with at least one family.
QUICK = {
    "lenet": (0.0, 0.99),
    "vgg": (0.5, 0.98),
    "mobilenet": (0.98,),
    "lstm": (0.8, 0.98),
    "gru": (0.95, 0.99),
    "transformer": (0.0, 0.98),
    "resnet": (0.99,),
    "inception": (0.9, 0.98),
    "odd widths": (1.0, 0.98),
}


@pytest.mark.parametrize(
    "family, sparsities",
    [pytest.param(family, QUICK[family], id=family) for family in FAMILIES]
    + [
        pytest.param(
            family, sparsities, id=f"{family}, all", marks=pytest.mark.thorough("all sparsities")
        )
        for family, (_, sparsities) in FAMILIES.items()
    ],
)
def test_outputs_stay(family, sparsities, randomize, compact_and_compare):
    if keras.backend.backend() == "jax":  # JAX compiles every layer anew for every width.
        sparsities = [sparsity for sparsity in sparsities if sparsity in (0.98, 0.99)][:1]
    model = FAMILIES[family][0]()
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, *model.input_shape[1:])).astype("float32")
    ratios = []
    for seed, sparsity in enumerate(sparsities):
        randomize(model, sparsity, seed)
        smaller, report = compact_and_compare(model, x)
        ratios.append(report.ratio)
        _, again = tfl.compact(smaller)
        assert again.parameters_after == report.parameters_after
    assert sparsities[0] > 0 or ratios[0] == 1.0
    assert ratios[-1] > 1.05


def test_lenet_at_98_percent(compact_and_compare):
    model = models.lenet_300_100(seed=0)
    rng = np.random.default_rng(0)
    for layer in model.layers[1:]:
        layer.bias.assign(rng.normal(size=layer.bias.shape))
    sparse = tfl.sparsify(model, sparsity=0.98, distribution="uniform")
    x = rng.normal(size=(8, 28, 28, 1)).astype("float32")
    tfl.strip(sparse)
    _, report = compact_and_compare(model, x)
    assert report.ratio > 1.3


def test_rounded_widths_of_convolutions(randomize, compact_and_compare):
    model = randomize(inception(), 0.9)
    x = np.random.default_rng(2).normal(size=(3, 8, 8, 3)).astype("float32")
    _, report = compact_and_compare(model, x, multiple_of=3)
    _, tight = compact_and_compare(model, x)
    assert report.parameters_after > tight.parameters_after
    for row in report.rows[:-1]:
        assert row.units_after % 3 == 0 and row.units_after > 0
