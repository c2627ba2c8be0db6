"""Models that can be made sparse, and the messages for those that cannot."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl

pytestmark = pytest.mark.backend


class Task(keras.Model):
    """A model that preprocesses the data in its own `fit`, as tasks of keras-hub do."""

    def __init__(self, preprocessor):
        super().__init__()
        self.preprocessor = preprocessor
        self.dense = layers.Dense(2)
        self(np.zeros((1, 3), "float32"))

    def call(self, inputs):
        return self.dense(inputs)


class OwnStep(Task):
    """A task that also has its own training step."""

    def train_step(self, *args):
        raise AssertionError


REFUSED = {
    "unbuilt": (
        lambda: keras.Sequential([layers.Dense(3)], name="m"),
        "must be built, so that its kernels exist.*Received: 'm', which is not built",
    ),
    "weightless": (
        lambda: keras.Sequential([keras.Input((3,)), layers.ReLU()], name="m"),
        "must have weights. Received: 'm', which has none",
    ),
    "no_kernels": (
        lambda: keras.Sequential([keras.Input((3,)), layers.BatchNormalization()], name="m"),
        "at least one kernel to prune.*Received: 'm'",
    ),
    "frozen": (
        lambda: keras.Sequential(
            [keras.Input((3,)), *(layers.Dense(3, name=f"d{i}", trainable=False) for i in range(5))]
        ),
        r"at least one kernel.*\{'frozen.*': \['.*d0/kernel', .*, '.*d2/kernel', '2 more'\]\}$",
    ),
    "layer": (
        lambda: layers.Dense(3, name="m"),
        "must be a `keras.Model`. Received: <Dense name=m",
    ),
    # The message must say that it is already sparse, not that it is not built.
    "sparse_unbuilt": (
        lambda: keras.Sequential([tfl.layers.Masked(layers.Dense(3))], name="m"),
        "must not be sparse yet.*Received: 'm'",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_pruned_is_refused(kind):
    make, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message):
        tfl.sparsify(make())


@pytest.mark.parametrize("kind", ["plain_is_compiled", "never", "after_tweaks_with_weights"])
def test_models_that_are_not_compiled_say_so(kind, make_model):
    model = make_model("nested" if kind == "after_tweaks_with_weights" else "dense")
    if kind == "plain_is_compiled":
        model.compile("sgd", "mse")
    sparse = tfl.sparsify(model)
    if kind == "after_tweaks_with_weights":
        sparse.compile("sgd", "mse")
        tfl.retrain.ghost_skips(sparse)
    for method in (sparse.fit, sparse.evaluate):
        message = f"Call `compile` of the sparse model before `{method.__name__}`.*{sparse.name}"
        with pytest.raises(ValueError, match=message):
            method(np.zeros((1, *sparse.input_shape[1:])), np.zeros((1, 3)))


def messages(model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        tfl.sparsify(model)
    return [
        str(warning.message)
        for warning in caught
        if "Task" in str(warning.message) or "OwnStep" in str(warning.message)
    ]


def test_preprocessing_that_training_bypasses_is_warned_about():
    (message,) = messages(Task(lambda x: x))
    assert message.startswith("Task preprocesses the data in its own `fit` and `predict`")
    assert "`dataset.map(model.preprocessor)`" in message
    assert messages(Task(None)) == []


def test_both_preprocessing_and_own_steps_are_warned_about():
    step, preprocessing = messages(OwnStep(lambda x: x))
    assert step.startswith("OwnStep overrides ['train_step']")
    assert preprocessing.startswith("OwnStep preprocesses")
