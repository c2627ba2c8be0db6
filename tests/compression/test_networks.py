from types import SimpleNamespace

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.compression.examples import read_examples
from tf_lottery.compression.grid import Network
from tf_lottery.compression.networks import load_network, make_network
from tf_lottery.compression.task import Task


@pytest.fixture
def make(make_model, make_data, tmp_path):
    """Returns a function that makes a network and checks that the model stays as it was."""
    model = make_model()
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    x, y = make_data()
    task = SimpleNamespace(
        model=model,
        train=read_examples("train", (x, y), model),
        finetune=1,
        learning_rate=None,
        batch_size=12,
        calibration=x,
        channel_budget="parameters",
        seed=0,
    )
    task.new_optimizer = lambda steps: Task.new_optimizer(task, steps)

    def run(structure, sparsity, finetuned=False):
        network, path = Network(structure, sparsity, finetuned), tmp_path / "network.keras"
        before = [w.copy() for w in model.get_weights()]
        make_network(task, network, path)
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        return load_network(task, network, path)

    return run


def test_channels_are_removed(make):
    found = make("channel", 0.5)
    assert tfl.flops(found).dense <= 0.5 * tfl.flops(make("unstructured", 0.5)).dense


def test_training_reaches_the_sparsity(make):
    one_shot, trained = make("unstructured", 0.75), make("unstructured", 0.75, finetuned=True)
    assert tfl.summary(one_shot).sparsity == tfl.summary(trained).sparsity == 0.75
    assert not np.array_equal(one_shot.layers[0].kernel, trained.layers[0].kernel)
    again = make("unstructured", 0.75, finetuned=True)
    np.testing.assert_array_equal(again.layers[0].kernel, trained.layers[0].kernel)


def test_learning_rate_is_that_of_the_start(make_model):
    model = make_model()
    schedule = keras.optimizers.schedules.CosineDecay(0.3, 10)
    for rate, given, expected in ((0.1, None, 0.1), (schedule, None, 0.3), (0.1, 0.5, 0.5)):
        model.compile(keras.optimizers.SGD(rate, momentum=0.9), "mse")
        task = SimpleNamespace(model=model, learning_rate=given)
        optimizer = Task.new_optimizer(task, 100)
        assert float(optimizer.learning_rate) == pytest.approx(expected)
        assert optimizer.momentum == 0.9
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.2)), "mse")
    optimizer = Task.new_optimizer(SimpleNamespace(model=model, learning_rate=None), 100)
    assert float(optimizer.learning_rate) == pytest.approx(0.2)


def test_networks_with_functions_are_loaded(tmp_path):
    doubled = keras.layers.Lambda(lambda x: 2 * x)
    model = keras.Sequential([keras.Input((3,)), doubled])
    model.save(tmp_path / "network.keras")
    task = SimpleNamespace(model=model)
    found = load_network(task, Network("unstructured", 0.5), tmp_path / "network.keras")
    np.testing.assert_array_equal(found(np.ones((1, 3))), np.full((1, 3), 2.0))
