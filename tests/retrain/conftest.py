"""Small networks with rectifiers and convolutions."""

import functools

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl


@pytest.fixture
def make_residual():
    """Returns a function: makes a small residual network with random statistics and weights."""

    def make(seed=0):
        conv = functools.partial(layers.Conv2D, kernel_size=3, padding="same")
        inputs = keras.Input((6, 6, 3), name="images")
        x = conv(4, activation="relu", name="stem")(inputs)
        y = conv(4, use_bias=False, name="first")(x)
        y = layers.ReLU(name="first_relu")(layers.BatchNormalization(name="first_norm")(y))
        y = conv(4, use_bias=False, name="second")(y)
        y = layers.BatchNormalization(name="second_norm")(y)
        x = layers.ReLU(name="second_relu")(layers.Add(name="sum")([y, x]))
        x = conv(6, strides=2, name="third")(x)
        x = layers.Activation("relu6", name="third_relu")(x)
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        model = keras.Model(inputs, layers.Dense(3, name="output")(x), name="residual")
        rng = np.random.default_rng(seed)
        for weight in model.weights:
            scale = 0.5 if len(weight.shape) > 1 else 0.1
            value = rng.normal(0, scale, weight.shape)
            weight.assign(np.abs(value) + 0.5 if weight.name.endswith("variance") else value)
        return model

    return make


@pytest.fixture
def images():
    """Eight images and their labels for the residual network."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(8, 6, 6, 3)).astype("float32"), rng.integers(0, 3, 8)


@pytest.fixture
def sparse(make_residual):
    """The residual network with half of its weights pruned."""
    return tfl.sparsify(make_residual(), 0.5, scores="random", seed=0)


@pytest.fixture
def fade():
    """Returns a function that ends the annealing of all tweaks of a model."""

    def fade(model):
        for tweak in model.tweaks:
            for name in ("softness", "factor", "alpha"):
                if hasattr(tweak, name):
                    getattr(tweak, name).assign(0.0)

    return fade
