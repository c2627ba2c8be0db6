"""Small networks whose scores can be derived by hand, and a fixture that records scores."""

import importlib

import keras
import numpy as np
import pytest
from keras import layers


@pytest.fixture
def linear_net():
    """Returns a function that makes a bias-free net of 3, 4 and 2 units with fixed weights."""

    def make(hidden=None, output=None, use_bias=False):
        model = keras.Sequential(
            [
                keras.Input((3,)),
                layers.Dense(4, hidden, use_bias=use_bias, name="hidden"),
                layers.Dense(2, output, use_bias=use_bias, name="output"),
            ]
        )
        rng = np.random.default_rng(3)
        for weight in model.weights:
            weight.assign(rng.normal(size=weight.shape))
        return model

    return make


@pytest.fixture
def normalized_net():
    """A net of 3, 4 and 2 units with batch normalization whose statistics are the initial ones."""
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, kernel_initializer=keras.initializers.RandomNormal(1.0, seed=0)),
            layers.BatchNormalization(),
            layers.Dense(2, kernel_initializer=keras.initializers.RandomNormal(1.0, seed=1)),
        ]
    )


@pytest.fixture
def regression_batches():
    """Two batches of five examples for `linear_net`."""
    rng = np.random.default_rng(4)
    return [
        (rng.normal(size=(5, 3)).astype("float32"), rng.normal(size=(5, 2)).astype("float32"))
        for _ in range(2)
    ]


@pytest.fixture
def scores_of(monkeypatch):
    """Returns a function that calls a method of `at_init` and returns its first scores."""

    def call(method, *args, **kwargs):
        module = importlib.import_module(f"tf_lottery.at_init._{method}")
        ranked, keep_highest = [], module.keep_highest

        def spy(model, scores, *rest):
            ranked.append([keras.ops.convert_to_numpy(score) for score in scores])
            return keep_highest(model, scores, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(module, "keep_highest", spy)
            getattr(module, method)(*args, **kwargs)
        return ranked[0]

    return call
