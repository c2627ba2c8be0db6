import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import ContinuousSparsification
from tf_lottery.snapshot import training_step

STEPS = 6  # an epoch, of batches of 4


def array(variable):
    return keras.ops.convert_to_numpy(variable).copy()


class Watch(keras.callbacks.Callback):
    """Remembers the state when a batch begins, and the temperature it was trained with."""

    def __init__(self):
        super().__init__()
        self.kernels, self.values, self.steps, self.momenta = [], [], [], []
        self.temperatures, self.statistics = [], []

    def on_train_batch_begin(self, batch, logs=None):
        model = self.model
        self.kernels.append([array(kernel) for kernel in model.masked.kernels])
        self.values.append([value.copy() for value in model.masked.values])
        self.steps.append(training_step(model.optimizer))
        slots = [v for v in model.optimizer.variables if v.name.endswith("momentum")]
        self.momenta.append({v.name: array(v) for v in slots})
        moving = [v for v in model.model.weights if v.name == "moving_mean"]
        self.statistics.append([array(v) for v in moving])

    def on_train_batch_end(self, batch, logs=None):
        self.temperatures.append(float(array(self.model.masked.control.temperature)))


@pytest.fixture
def search(make_model, make_data, compile_model):
    """Function that runs a search of 6 steps an epoch; returns it, what was watched, the model."""

    def run(
        gate=None, optimizer=None, kind="dense", others=(), model=None, fit=None, mode=None,
        **kwargs,
    ):  # fmt: skip
        arguments = {"epochs_per_round": 2, "rounds": 2, "verbose": 0, **kwargs}
        callback = ContinuousSparsification(**arguments, **({"mode": mode} if mode else {}))
        if model is None:
            gate = gate or tfl.SoftGate(learning_rate_multiplier=20.0)
            model = tfl.sparsify(make_model(kind), gate=gate)
            compile_model(model, optimizer or keras.optimizers.SGD(0.1))
        watch = Watch()
        x, y = make_data(kind)
        watch.logs = model.fit(
            x, y, batch_size=4, shuffle=False, verbose=0,
            callbacks=[callback, watch, *others], **{"epochs": callback.epochs, **(fit or {})},
        ).history  # fmt: skip
        return callback, watch, model

    return run


def search_by_hand(kernel, x, y, gate, rate, momentum, temperatures, rewind_to):
    """Algorithm 2 of arXiv:1912.04427 for a linear layer and the mean squared error.

    `temperatures` has a list for every round; after them the ticket is trained for one epoch.
    """
    scale = 1 + np.exp(-gate.initial_value) if gate.rescale else 1.0
    s = np.full(kernel.shape, gate.initial_value)
    velocity = np.zeros_like(kernel)
    batches = list(zip(np.split(x, STEPS), np.split(y, STEPS), strict=True))
    found = {"kernels": [], "values": [], "losses": [], "penalties": []}
    rewound = None

    def step(number, temperature):
        nonlocal kernel, s, velocity, velocity_s
        a, b = batches[number % STEPS]
        opened = scale / (1 + np.exp(-temperature * s))
        error = a @ (kernel * opened) - b
        gradient = 2 / b.size * a.T @ error
        slope = temperature * opened * (1 - opened / scale)
        velocity = momentum * velocity - rate * gradient * opened
        velocity_s = momentum * velocity_s - rate * (gradient * kernel + gate.penalty) * slope
        found["kernels"].append(kernel)
        found["values"].append(s)
        found["losses"].append(np.mean(error**2) + gate.penalty * opened.sum())
        kernel = kernel + velocity
        s = s + gate.learning_rate_multiplier * velocity_s
        found["penalties"].append(
            gate.penalty * scale / (1 + np.exp(-temperature * s)).astype("float64")
        )

    for r, in_round in enumerate(temperatures):
        if r:
            s = np.minimum(in_round[-1] * s, gate.initial_value)
        velocity_s = np.zeros_like(s)
        for number, temperature in enumerate(in_round):
            if (r, number) == (0, rewind_to):
                rewound = kernel
            step(number, temperature)
    mask = s > 0
    kernel, velocity = rewound * mask, 0.0
    for a, b in batches:
        found["kernels"].append(kernel)
        found["values"].append(s)
        error = a @ kernel - b
        found["losses"].append(np.mean(error**2))
        velocity = momentum * velocity - rate * 2 / b.size * (a.T @ error) * mask
        kernel = kernel + velocity
    return found, mask, rewound


@pytest.mark.parametrize(
    ("anneal", "gate"),
    [
        ("step", tfl.SoftGate(-0.05, penalty=0.002)),
        ("epoch", tfl.SoftGate(0.02, penalty=0.01, rescale=False, learning_rate_multiplier=2.0)),
    ],
)
def test_three_rounds_against_the_algorithm_by_hand(anneal, gate):
    rng = np.random.default_rng(3)
    kernel = rng.normal(size=(5, 4)).astype("float32")
    x = rng.normal(size=(4 * STEPS, 5)).astype("float32")
    y = rng.normal(size=(4 * STEPS, 4)).astype("float32")
    dense = keras.layers.Dense(4, use_bias=False)
    model = tfl.sparsify(keras.Sequential([keras.Input((5,)), dense]), gate=gate)
    dense.kernel.assign(kernel)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mean_squared_error")
    callback = ContinuousSparsification(3, rounds=3, retrain_epochs=1, anneal=anneal, verbose=0)
    watch = Watch()
    logs = model.fit(
        x, y, batch_size=4, epochs=10, shuffle=False, verbose=0, callbacks=[callback, watch]
    ).history
    exponents = {
        "step": np.arange(18) / 17,
        "epoch": np.repeat([0, 0.5, 1], STEPS),
    }[anneal]
    temperatures = [200.0**exponents] * 3
    if anneal == "step":
        temperatures = [200.0 ** (np.arange(18) / 17)] * 3
    by_hand, mask, rewound = search_by_hand(
        kernel.astype("float64"), x.astype("float64"), y.astype("float64"),
        gate, 0.01, 0.9, temperatures, 2 * STEPS,
    )  # fmt: skip
    assert 0 < mask.mean() < 1
    np.testing.assert_allclose(watch.temperatures[:54], np.concatenate(temperatures), rtol=1e-6)
    found = [values[0] for values in watch.values]
    # Of values pushed down by the reset, the sixth digit counts.
    np.testing.assert_allclose(found, by_hand["values"], rtol=1e-6, atol=1e-6)
    found = [kernels[0] for kernels in watch.kernels]
    np.testing.assert_allclose(found, by_hand["kernels"], rtol=1e-6, atol=1e-6)
    losses = np.reshape(by_hand["losses"], (10, STEPS)).mean(axis=1)
    np.testing.assert_allclose(logs["loss"], losses, rtol=1e-6)
    np.testing.assert_array_equal(next(iter(model.get_masks().values())), mask)
    np.testing.assert_allclose(
        next(iter(callback.tickets[-1].weights.values())), rewound, rtol=1e-6, atol=1e-6
    )
