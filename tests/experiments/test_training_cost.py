import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.experiments import methods
from tf_lottery.experiments.retraining import RetrainSettings
from tf_lottery.experiments.training import TrainSettings
from tf_lottery.experiments.training_cost import training_cost

# A step takes four examples. A dense forward pass through 8 x 4 and 4 x 2 weights takes 80 FLOPs.
OPTIONS = {"batch_size": 4}
DENSE, HALF = 3 * 80, 3 * 40


@pytest.fixture(scope="module")
def half():
    layers = [keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2)]
    return tfl.sparsify(keras.Sequential(layers), sparsity=0.5, distribution="uniform")


@pytest.mark.parametrize(
    ("settings", "per_example", "trainings"),
    [
        (TrainSettings("static", **OPTIONS), HALF, 1),
        (TrainSettings("synflow", **OPTIONS), HALF, 1),
        (RetrainSettings("lenet-5", **OPTIONS), HALF, 1),
        (TrainSettings("cs", rounds=2, **OPTIONS), 2 * DENSE + HALF, 3),
        (TrainSettings("cs", rounds=2, mode="prune", **OPTIONS), 2 * DENSE, 2),
        # Both forward and one backward pass are sparse; every tenth weight gradient is dense.
        (TrainSettings("rigl", frequency=10, **OPTIONS), (10 * HALF + 2 * 40 + 80) / 11, 1),
        (TrainSettings("snfs", **OPTIONS), 2 * 40 + 80, 1),
    ],
    ids=lambda value: getattr(value, "method", None),
)
def test_cost(half, settings, per_example, trainings):
    retrains = isinstance(settings, RetrainSettings)
    updates = [] if retrains else methods.mask_updates(settings, 30, 0)
    cost = training_cost(half, settings, 30, updates=updates)
    assert cost["steps"] == 30 * trainings
    assert cost["training_flops"] == pytest.approx(30 * 4 * per_example)


def test_a_search_costs_every_level(half):
    dense = tfl.Ticket.from_model(half)
    for mask in dense.masks.values():
        mask[...] = True
    settings = TrainSettings("imp", levels=1, epochs=3, **OPTIONS)
    cost = training_cost(half, settings, 30, tickets=[dense, tfl.Ticket.from_model(half)])
    assert cost["steps"] == 60
    assert cost["training_flops"] == pytest.approx(30 * 4 * (DENSE + HALF))
    # The ticket is known before it is trained.
    assert cost["ticket_cost"] == {"epochs": 3, "steps": 30, "training_flops": 30 * 4 * DENSE}
    assert cost["flops_coverage"] == 1.0


def test_levels_after_rewinding_are_shorter(half):
    settings = TrainSettings("imp", levels=2, epochs=3, **OPTIONS)
    tickets = [tfl.Ticket.from_model(half)] * 3
    cost = training_cost(half, settings, 30, tickets=tickets, epochs=[3, 2, 2])
    assert cost["steps"] == 30 + 20 + 20
    assert cost["training_flops"] == pytest.approx(70 * 4 * HALF)
    assert cost["ticket_cost"]["epochs"] == 5
    assert cost["ticket_cost"]["steps"] == 50


@pytest.mark.parametrize("mode", ["ticket", "prune"])
def test_gates_cost_all_rounds_before_their_ticket_is_known(half, mode):
    settings = TrainSettings("cs", rounds=2, mode=mode, epochs=3, **OPTIONS)
    found = training_cost(half, settings, 30)["ticket_cost"]
    assert found == {"epochs": 6, "steps": 60, "training_flops": 2 * 30 * 4 * DENSE}


def test_gradual_pruning_costs_the_mean_of_its_steps(half):
    settings = TrainSettings("gmp", sparsity=0.5, frequency=1, end_step=20, **OPTIONS)
    (pruning,) = methods.mask_updates(settings, 30, 0)
    densities = 1 - np.array([pruning.schedule(step) for step in range(31)])
    assert densities[0] == 1 and densities[-1] == 0.5
    cost = training_cost(half, settings, 30, updates=[pruning])
    assert cost["training_flops"] == pytest.approx(30 * 4 * DENSE * densities.mean())


class Own(keras.layers.Layer):
    def __init__(self, examples=None):
        super().__init__()
        self.examples = examples

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(3, 2), name="kernel")

    def call(self, inputs):
        if self.examples and inputs.shape[0] != self.examples:
            raise TypeError("code of the user's own")
        return keras.ops.matmul(inputs, self.kernel)


def test_the_share_of_the_weights_that_is_counted():
    sequential = keras.Sequential([keras.Input((3,)), Own(), keras.layers.Dense(3, use_bias=False)])
    cost = training_cost(tfl.sparsify(sequential), TrainSettings("dense", **OPTIONS), 7)
    # Six weights of each layer; a product with those of `Dense` takes 12 FLOPs.
    assert (cost["flops_coverage"], cost["training_flops"]) == (0.5, 7 * 4 * 3 * 12)


@pytest.mark.parametrize(
    ("shape", "layer"),
    [((None, 3), keras.layers.LSTM(2)), ((3,), Own()), ((3,), Own(examples=4))],
    ids=["open length", "unknown layer", "code that fails"],
)
def test_models_whose_flops_cannot_be_counted(shape, layer):
    sequential = keras.Sequential([layer])
    sequential.build((4, *shape))
    cost = training_cost(tfl.sparsify(sequential, sparsity=0.5), TrainSettings("static"), 7)
    assert cost == {"steps": 7, "training_flops": None}
