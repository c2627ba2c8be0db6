import pathlib

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery import optimizers
from tf_lottery.callbacks import ContinuousSparsification
from tf_lottery.optimizers import training_step

STEPS = 6  # per epoch, with batches of 4
# With these settings gates open or close within a dozen steps.
MOVING = tfl.SoftGate(learning_rate_multiplier=20.0)


def array(variable):
    return keras.ops.convert_to_numpy(variable).copy()


class Watch(keras.callbacks.Callback):
    """Records the state before every batch, and the temperature of its training step."""

    def __init__(self):
        super().__init__()
        self.kernels, self.values, self.steps, self.momenta = [], [], [], []
        self.temperatures, self.statistics, self.logs = [], [], {}

    def on_train_batch_begin(self, batch, logs=None):
        model = self.model
        self.kernels.append([array(kernel) for kernel in model.wrapper.kernels])
        self.values.append(model.selection.values)
        self.steps.append(training_step(model.optimizer))
        slots = [v for v in model.optimizer.variables if v.name.endswith("momentum")]
        self.momenta.append({v.name: array(v) for v in slots})
        moving = [v for v in model.model.weights if v.name == "moving_mean"]
        self.statistics.append([array(v) for v in moving])

    def on_train_batch_end(self, batch, logs=None):
        self.temperatures.append(float(array(self.model.selection.control.temperature)))


@pytest.fixture
def search(make_model, make_data, compile_model):
    """Returns a function that runs a search: 6 steps per epoch; returns callback, watch, model."""

    def run(gate=None, optimizer=None, kind="dense", others=(), model=None, fit=None, **kwargs):
        callback = ContinuousSparsification(
            **{"epochs_per_round": 2, "rounds": 2, "verbose": 0, **kwargs}
        )
        if model is None:
            model = tfl.sparsify(make_model(kind), gate=gate or MOVING)
            mode = {"run_eagerly": False} if callback.epochs > 2 else {}
            compile_model(model, optimizer or keras.optimizers.SGD(0.1), **mode)
        watch = Watch()
        x, y = make_data(kind)
        watch.logs = model.fit(
            x, y, batch_size=4, shuffle=False, verbose=0,
            callbacks=[callback, watch, *others], **{"epochs": callback.epochs, **(fit or {})},
        ).history  # fmt: skip
        return callback, watch, model

    return run


@pytest.fixture(scope="module")
def finished():
    return {}


@pytest.fixture
def ticket_search(search, finished):
    """The result of one search that many tests read and none changes."""
    if not finished:
        finished[None] = search(
            tfl.SoftGate(penalty=1e-3, learning_rate_multiplier=20.0),
            keras.optimizers.SGD(0.05, momentum=0.9),
        )
    return finished[None]


def sigmoid(values):
    return np.exp(np.minimum(values, 0.0)) / (1 + np.exp(-np.abs(values)))


def search_by_hand(kernel, x, y, gate, temperatures, rate, momentum=0.9):
    """Algorithm 2 of arXiv:1912.04427 for a linear layer and the mean squared error.

    A round has two epochs, the weights are rewound to the first one's end, and after
    the rounds the ticket trains for an epoch.
    """
    scale = 1 + np.exp(-gate.initial_value) if gate.rescale else 1.0
    s, velocity = np.full(kernel.shape, gate.initial_value), np.zeros(kernel.shape)
    batches = list(zip(np.split(x, STEPS), np.split(y, STEPS), strict=True))
    found = {"kernels": [], "values": [], "losses": [], "penalties": []}
    for step, temperature in enumerate(temperatures):
        if step % (2 * STEPS) == 0:
            s = np.minimum(200.0 * s, gate.initial_value) if step else s
            velocity_s = np.zeros(kernel.shape)
        a, b = batches[step % STEPS]
        opened = scale * sigmoid(temperature * s)
        error = a @ (kernel * opened) - b
        gradient = 2 / b.size * a.T @ error
        slope = temperature * opened * (1 - opened / scale)
        found["kernels"].append(kernel)
        found["values"].append(s)
        found["losses"].append(np.mean(error**2) + gate.penalty * opened.sum())
        velocity_s = momentum * velocity_s - rate * (gradient * kernel + gate.penalty) * slope
        velocity = momentum * velocity - rate * gradient * opened
        kernel, s = kernel + velocity, s + gate.learning_rate_multiplier * velocity_s
        found["penalties"].append(gate.penalty * scale * sigmoid(temperature * s).sum())
    mask, rewound = s > 0, found["kernels"][STEPS]
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
    ("anneal", "exponents", "gate", "seed", "rate"),
    [
        ("step", np.arange(12) / 11, tfl.SoftGate(-0.05, penalty=0.002), 6, 0.01),
        (
            "epoch",
            np.repeat([0.0, 1.0], STEPS),
            tfl.SoftGate(0.02, penalty=0.01, rescale=False, learning_rate_multiplier=2.0),
            8,
            0.005,
        ),
    ],
)
def test_three_rounds_against_the_algorithm_by_hand(anneal, exponents, gate, seed, rate):
    rng = np.random.default_rng(seed)
    kernel, x = (rng.normal(size=(size, n)).astype("float32") for size, n in ((5, 4), (24, 5)))
    y = (x @ (2 * kernel * (rng.random((5, 4)) < 0.6))).astype("float32")
    dense = keras.layers.Dense(4, use_bias=False)
    model = tfl.sparsify(keras.Sequential([keras.Input((5,)), dense]), gate=gate)
    dense.kernel.assign(kernel)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), "mean_squared_error")
    search = ContinuousSparsification(2, rounds=3, retrain_epochs=1, anneal=anneal, verbose=0)
    watch = Watch()
    logs = model.fit(
        x, y, batch_size=4, epochs=7, shuffle=False, verbose=0, callbacks=[search, watch]
    ).history
    temperatures = 200.0 ** np.tile(exponents, 3)
    expected, mask, rewound = search_by_hand(
        *(array.astype("float64") for array in (kernel, x, y)), gate, temperatures, rate
    )
    assert 0 < mask.sum() < np.sum(np.array(expected["values"][11]) > 0)
    assert_close(watch.temperatures[:36], temperatures)
    assert_close([kernels[0] for kernels in watch.kernels], expected["kernels"])
    values = np.array([values[0] for values in watch.values])
    gates = sigmoid(temperatures[:, None, None] * values[:36])
    assert_close(gates, sigmoid(temperatures[:, None, None] * expected["values"][:36]))
    # The reset multiplies the rounding errors of values that no longer matter by 200.
    np.testing.assert_allclose(values, expected["values"], rtol=1e-5, atol=1e-6)
    assert_close(logs["loss"], np.reshape(expected["losses"], (7, STEPS)).mean(axis=1))
    found = [record["logs"].get("gate_penalty", []) for record in search.history]
    assert_close(sum(found, []), expected["penalties"][STEPS - 1 :: STEPS])
    [path] = model.kernels
    np.testing.assert_array_equal(model.get_masks()[path], mask)
    np.testing.assert_array_equal(search.tickets[-1].masks[path], mask)
    assert_close(search.tickets[-1].weights[path], rewound)


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("anneal", "final", "chunk", "expected"),
    [
        ("step", 200.0, 1, 200 ** (np.arange(12) / 11)),
        ("step", 200.0, 3, 200 ** (np.array([2, 5, 8, 11]) / 11)),
        ("epoch", 64.0, 1, [1.0] * STEPS + [64.0] * STEPS),
    ],
)
def test_temperature_of_every_round(
    anneal, final, chunk, expected, search, make_model, compile_model
):
    model = tfl.sparsify(make_model(), gate=MOVING)
    optimizer = keras.optimizers.SGD(0.1)
    compile_model(model, optimizer, run_eagerly=False, steps_per_execution=chunk)
    _, watch, _ = search(model=model, anneal=anneal, final_temperature=final, retrain_epochs=0)
    np.testing.assert_allclose(watch.temperatures, [*expected, *expected], rtol=1e-6)
    length = len(expected)
    assert [watch.temperatures[i] for i in (length - 1, -1)] == [final, final]
    assert max(watch.temperatures) == final
    if chunk == 1:
        assert [watch.temperatures[i] for i in (0, length)] == [1.0, 1.0]


def test_logs_and_history(ticket_search):
    callback, watch, model = ticket_search
    assert watch.logs["round"] == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(watch.logs["density"][:1], [mean_open(watch.values[6])])
    assert watch.logs["density"][1] == callback.tickets[0].density
    assert watch.logs["density"][3:] == [callback.tickets[1].density] * 3
    last = np.concatenate([array.ravel() for array in watch.values[12]])
    assert [record["round"] for record in callback.history] == [0, 1, 2]
    densities = [record["density"] for record in callback.history]
    assert densities == [callback.tickets[i].density for i in (0, 1, 1)]
    assert mean_open(model.selection.values) == model.density
    # The values after the reset show how many gates were open in the first round.
    assert np.mean(last == 0) == pytest.approx(callback.tickets[0].density, abs=0.03)
    searching, retraining = callback.history[0]["logs"], callback.history[2]["logs"]
    assert set(searching) - set(retraining) == {"temperature", "undecided", "gate_penalty"}
    np.testing.assert_allclose(searching["temperature"], [200 ** (5 / 11), 200.0], rtol=1e-6)
    gates = sigmoid(200 ** (5 / 11) * np.concatenate([v.ravel() for v in watch.values[6]]))
    assert searching["undecided"][0] == np.mean((gates > 0.01) & (gates < 0.99))
    assert searching["gate_penalty"][0] == pytest.approx(1e-3 * 2 * gates.sum(), rel=1e-5)


def mean_open(values):
    return np.mean(np.concatenate([value.ravel() for value in values]) > 0)


def test_rounds_are_announced(search, capsys):
    callback, _, _ = search(verbose=1, epochs_per_round=1, retrain_epochs=2)
    density = [f"{ticket.density:.2%}" for ticket in callback.tickets]
    assert capsys.readouterr().out.splitlines() == [
        "Round 0/2: density 100.00%, 1 epochs from step 0",
        f"Round 1/2: density {density[0]}, 1 epochs from step 0",
        f"Round 2/2: density {density[1]}, 2 epochs from step 0",
    ]


class HardLoss(keras.callbacks.Callback):
    """Evaluates a plain copy of the network with hard gates after every epoch."""

    def __init__(self, plain, data):
        super().__init__()
        self.plain, self.data, self.losses = plain, data, []

    def on_epoch_end(self, epoch, logs=None):
        self.plain.set_weights([array(weight) for weight in self.model.model.weights])
        scale = float(array(self.model.selection.scale))
        kernels = [w for w in self.plain.weights if len(w.shape) == 2]
        for kernel, values in zip(kernels, self.model.selection.values, strict=True):
            kernel.assign(array(kernel) * scale * (values > 0))
        x, y = self.data
        probabilities = keras.ops.softmax(self.plain(x), axis=-1)
        self.losses.append(-np.mean(np.log(array(probabilities)[np.arange(len(y)), y])))


def test_validation_is_that_of_hard_gates_and_training_stays_soft(search, make_model, make_data):
    data = make_data("dense", 20)
    hard = HardLoss(make_model(), data)
    _, watch, model = search(
        others=[hard], rounds=1, retrain_epochs=1, fit={"validation_data": data}
    )
    np.testing.assert_allclose(watch.logs["val_loss"], hard.losses, rtol=1e-4)
    _, alone, other = search(rounds=1, retrain_epochs=1)
    assert alone.temperatures == watch.temperatures
    for value, expected in zip(model.variables, other.variables, strict=True):
        if "gate" in value.path or "kernel" in value.path:
            np.testing.assert_array_equal(array(value), array(expected), err_msg=value.path)


class Interrupt(keras.callbacks.Callback):
    """Raises `KeyboardInterrupt` in the second evaluation."""

    evaluations = 2

    def on_test_batch_end(self, batch, logs=None):
        self.evaluations -= 1
        if self.evaluations == 0:
            raise KeyboardInterrupt


def test_interrupted_evaluation_leaves_no_hard_gates(
    search, make_model, make_data, compile_model, tmp_path
):
    model = compile_model(tfl.sparsify(make_model(), gate=MOVING), keras.optimizers.SGD(0.1))
    arguments = {
        "rounds": 1,
        "retrain_epochs": 0,
        "fit": {"validation_data": make_data("dense", 4)},
    }
    with pytest.raises(KeyboardInterrupt):
        search(model=model, others=[Interrupt()], directory=tmp_path, **arguments)
    assert model.has_soft_gates
    # The saved state is that of the end of the first epoch.
    _, watch, _ = search(model=model, directory=tmp_path, **arguments)
    np.testing.assert_allclose(watch.temperatures, 200 ** (np.arange(6, 12) / 11), rtol=1e-6)


@pytest.mark.parametrize(("rewind_to_epoch", "kind"), [(0, "dense"), (1, "nested")])
def test_ticket_is_rewound_and_its_gates_are_frozen(rewind_to_epoch, kind, search):
    callback, watch, model = search(
        kind=kind, rewind_to_epoch=rewind_to_epoch, optimizer=keras.optimizers.AdamW(0.03)
    )
    # Batch statistics are rewound, too.
    assert len(watch.statistics[0]) == (kind == "nested")
    assert len(watch.steps) == 6 * STEPS
    assert not model.has_soft_gates
    retraining, origin = 4 * STEPS, rewind_to_epoch * STEPS
    masks = list(model.get_masks().values())
    for i, mask in enumerate(masks):
        rewound = watch.kernels[origin][i] * mask
        np.testing.assert_array_equal(watch.kernels[retraining][i], rewound)
        assert not np.array_equal(watch.kernels[-1][i], rewound)
        for values in watch.values[retraining:]:
            np.testing.assert_array_equal(values[i], model.selection.values[i])
            np.testing.assert_array_equal(values[i] > 0, mask)
    for found, expected in zip(watch.statistics[retraining], watch.statistics[origin], strict=True):
        np.testing.assert_array_equal(found, expected)
        assert not np.array_equal(found, watch.statistics[retraining - 1][0])
    for ticket in callback.tickets:
        paths = list(ticket.masks)
        for path, kernel in zip(paths, watch.kernels[origin], strict=True):
            np.testing.assert_array_equal(ticket.weights[path], kernel)
    assert [ticket.level for ticket in callback.tickets] == [0, 1]


def test_weights_are_kept_between_rounds_and_in_prune_mode(search):
    callback, watch, model = search(mode="prune")
    assert callback.epochs == 4
    assert len(watch.steps) == 4 * STEPS
    change = watch.kernels[2 * STEPS][0] - watch.kernels[2 * STEPS - 1][0]
    assert 0 < np.abs(change).max() < 0.5 * np.abs(watch.kernels[-1][0] - watch.kernels[0][0]).max()
    for path, kernel in model.get_kernels().items():
        mask = model.get_masks()[path]
        np.testing.assert_array_equal(kernel != 0, mask)
        # The gate scale of 2 is multiplied into the remaining weights.
        np.testing.assert_array_equal(kernel, callback.tickets[-1].weights[path] * mask)
    rewritten = callback.tickets[-1].weights[next(iter(model.kernels))] / 2
    assert np.abs(rewritten - watch.kernels[-1][0]).max() < 0.3
    assert float(array(model.selection.scale)) == 1.0
    # These weights are those at the end of each round, whose steps start at 0.
    assert [ticket.provenance["step"] for ticket in callback.tickets] == [2 * STEPS] * 2


def test_masks_are_taken_before_the_reset(ticket_search):
    callback, watch, _ = ticket_search
    path = next(iter(callback.tickets[0].masks))
    kept = callback.tickets[0].masks[path]
    assert 0 < kept.mean() < 1
    # After the reset no value is above the initial value 0.
    first = watch.values[2 * STEPS][0]
    assert first.max() == 0.0
    assert np.all(first[kept] == 0.0)
    assert np.all(first[~kept] <= 0.0)


def test_velocity_of_gates_starts_again_and_that_of_weights_goes_on(ticket_search):
    _, watch, _ = ticket_search
    second = watch.momenta[2 * STEPS]
    assert len(second) == 6
    for name, momentum in second.items():
        assert np.any(momentum) == ("gate" not in name)
    assert not any(np.any(momentum) for momentum in watch.momenta[4 * STEPS].values())


def test_a_ticket_is_retrained_with_a_fresh_optimizer(search, make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model(), gate=MOVING))
    model.fit(*make_data(), batch_size=4, verbose=0)
    _, watch, _ = search(model=model, epochs_per_round=1, rounds=1)
    momenta = [np.concatenate([*map(np.ravel, m.values())]) for m in watch.momenta]
    assert np.any(momenta[0])
    assert not np.any(momenta[STEPS])
    assert np.any(momenta[STEPS + 1])


@pytest.mark.parametrize(("mode", "starts"), [("ticket", [0, 0, 0]), ("prune", [0, 0, 12])])
def test_learning_rate_starts_again_every_round(mode, starts, search):
    class Halve(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            rates.append(float(array(self.model.optimizer.learning_rate)))
            self.model.optimizer.learning_rate = rates[-1] / 2

    rates = []
    _, watch, _ = search(mode=mode, retrain_epochs=2, others=[Halve()])
    assert [watch.steps[i] for i in (0, 12, 24)] == starts
    expected = {"ticket": [0.1, 0.05] * 3, "prune": [0.1, 0.05, 0.1, 0.05, 0.025, 0.0125]}[mode]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    "target_density",
    [0.2, pytest.param(0.05, marks=pytest.mark.thorough("trains as long as the other one"))],
)
def test_target_density_is_met(target_density):
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    dense = [keras.layers.Dense(32, "relu"), keras.layers.Dense(10)]
    gate = tfl.SoftGate(learning_rate_multiplier=3.0)
    model = tfl.sparsify(keras.Sequential([keras.Input((64,)), *dense]), gate=gate)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], steps_per_execution=28)
    search = ContinuousSparsification(
        5, rounds=2, mode="prune", target_density=target_density, verbose=0
    )
    logs = model.fit(
        x / 16, y, batch_size=16, epochs=search.epochs, verbose=0, callbacks=[search]
    ).history
    assert model.density == pytest.approx(target_density, rel=0.1)
    # Every round multiplies by the same factor.
    assert search.tickets[0].density == pytest.approx(target_density**0.5, rel=0.5)
    assert logs["undecided"][-1] < 0.05
    assert model.evaluate(x / 16, y, verbose=0)[1] > 0.85
    assert len(set(logs["gate_penalty"])) == 10


def test_momentum_of_pruned_weights_is_forgotten_in_prune_mode(search):
    sgd = keras.optimizers.SGD(0.05, momentum=0.9)
    _, _, model = search(optimizer=sgd, mode="prune", rounds=1)
    trained = model.trainable_variables
    found = zip(trained, optimizers.slots(model.optimizer, trained), strict=True)
    momentum = {id(variable): array(slots["momentum"]) for variable, slots in found if slots}
    for kernel, mask in zip(model.wrapper.kernels, model.wrapper.get_masks(), strict=True):
        np.testing.assert_array_equal(momentum[id(kernel)] != 0, mask)


def test_exact_density_keeps_the_highest_values(search, make_model):
    callback, _, model = search(target_density=0.25, exact_density=True, mode="prune")
    values = np.concatenate([values.ravel() for values in model.selection.values])
    masks = np.concatenate([mask.ravel() for mask in callback.tickets[-1].masks.values()])
    assert masks.sum() == np.count_nonzero(values > 0) == 0.25 * 72
    assert model.density == callback.history[-1]["density"] == 0.25


def test_exact_density_opens_gates_below_zero(search):
    gate = tfl.SoftGate(-1.0)
    callback, watch, model = search(
        gate, target_density=0.25, exact_density=True, rounds=1, mode="prune"
    )
    before = np.concatenate([values.ravel() for values in watch.values[-1]])
    assert before.max() < 0
    assert model.density == 0.25
    kept = np.concatenate([mask.ravel() for mask in model.get_masks().values()])
    assert before[kept].min() > before[~kept].max() - 0.05


def test_stochastic_gates_stay_at_temperature_one_and_are_shut_for_good(search):
    gate = tfl.SoftGate(0.1, stochastic=True, learning_rate_multiplier=20.0, penalty=1e-2)
    callback, watch, model = search(gate)
    assert watch.temperatures[: 4 * STEPS] == pytest.approx([1.0] * 4 * STEPS)
    after, shut = (np.concatenate([v.ravel() for v in watch.values[i]]) for i in (12, 23))
    is_shut = after == -1000.0
    assert 0 < is_shut.mean() < 1
    assert np.all(after[~is_shut] >= 0.1 - 1e-6)
    np.testing.assert_array_equal(shut[is_shut], after[is_shut])
    kept = np.concatenate([mask.ravel() for mask in model.get_masks().values()])
    assert not np.any(kept & is_shut)
    assert 0 < callback.tickets[1].density <= np.mean(~is_shut)


@pytest.mark.filterwarnings("ignore:.* undecided")
def test_a_file_with_soft_gates_is_warned_of(search, tmp_path):
    class KeepTheFirst(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.save_weights(tmp_path / f"{'rest' if epoch else 'first'}.weights.h5")

    with pytest.warns(UserWarning, match="'.*first.weights.h5' was last written with soft gates"):
        _, _, model = search(rounds=1, others=[KeepTheFirst()])
    assert [model.sparsity, None] == sorted(model.saves.values(), key=lambda saved: saved is None)


def test_undecided_gates_are_warned_about(search):
    slow = tfl.SoftGate(0.001, learning_rate_multiplier=1e-3)
    with pytest.warns(
        UserWarning, match="100.0% of the gates were undecided at the end of round 0"
    ):
        search(slow, epochs_per_round=1, rounds=1, retrain_epochs=0)


@pytest.mark.filterwarnings("error:.*undecided")
def test_decided_gates_are_not_warned_about(search):
    callback, _, _ = search(tfl.SoftGate(1.0), epochs_per_round=1, rounds=1, retrain_epochs=0)
    assert callback.history[0]["logs"]["undecided"][-1] == 0.0


def test_emptied_kernel_is_warned_about(search, make_model, compile_model):
    model = compile_model(tfl.sparsify(make_model(), gate=tfl.SoftGate(1.0)))

    class Close(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            model.selection.gates[1].assign(np.full((8, 3), -1.0))

    with pytest.warns(UserWarning, match=r"no weight in \['.*output/kernel'\]"):
        search(model=model, others=[Close()], epochs_per_round=1, rounds=1, retrain_epochs=0)


def test_second_search_keeps_what_was_pruned_pruned(search):
    _, _, model = search(mode="prune", rounds=1)
    before = model.get_masks()
    kernels = [array(kernel) for kernel in model.wrapper.kernels]
    assert 0 < model.density < 1
    callback, watch, _ = search(model=model, rounds=1, retrain_epochs=0)
    for i, (path, mask) in enumerate(before.items()):
        np.testing.assert_array_equal(watch.kernels[0][i], kernels[i])
        np.testing.assert_array_equal(watch.values[0][i], np.where(mask, 0.0, -1000.0))
        assert not np.any(model.get_masks()[path] & ~mask)
    assert watch.temperatures[0] == 1.0
    assert callback.tickets[0].density <= np.mean(
        np.concatenate([mask.ravel() for mask in before.values()])
    )


def test_second_search_of_soft_gates_starts_again(search):
    with pytest.warns(UserWarning, match="ended in round 0 of 1, after 1 of 2 epochs"):
        _, first, model = search(rounds=1, fit={"epochs": 1})
    _, second, _ = search(model=model, epochs_per_round=1, rounds=1, retrain_epochs=0)
    np.testing.assert_array_equal(second.values[0][0], first.values[0][0])
    assert second.temperatures[0] == 1.0


def test_search_is_kept_and_another_one_refused(search, tmp_path):
    arguments = {"epochs_per_round": 2, "rounds": 2, "retrain_epochs": 0, "directory": tmp_path}
    callback, _, _ = search(**arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "search.npz",
        "ticket_00.npz",
        "ticket_01.npz",
    ]
    loaded = tfl.Ticket.load(tmp_path / "ticket_01.npz")
    assert loaded.overlap(callback.tickets[1]) == 1.0
    assert loaded.provenance["mode"] == "ticket"
    assert loaded.provenance["gate"]["learning_rate_multiplier"] == 20.0
    assert loaded.provenance["step"] == STEPS
    for other in ({"final_temperature": 100.0}, {"gate": tfl.SoftGate(0.1)}):
        with pytest.raises(ValueError, match="`directory` must be empty or hold a search"):
            search(**arguments, **other)


def test_ticket_applies_to_models_with_and_without_gates(ticket_search, make_model, make_data):
    callback, _, _ = ticket_search
    x, _ = make_data()
    ticket = callback.tickets[-1]
    outputs = []
    for gate in (None, tfl.SoftGate()):
        model = tfl.sparsify(make_model(), gate=gate)
        assert ticket.apply(model).unmatched == {}
        assert not model.has_soft_gates
        assert model.density == ticket.density
        outputs.append(array(model(x)))
    np.testing.assert_array_equal(outputs[1], outputs[0])


@pytest.mark.backend
def test_model_saved_in_the_middle_of_a_round_goes_on(search, make_data, tmp_path):
    with pytest.warns(UserWarning, match="after 1 of 2 epochs"):
        _, _, model = search(
            optimizer=keras.optimizers.AdamW(0.01), kind="subclassed", fit={"epochs": 1}
        )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for either in (model, loaded):
        either.fit(*make_data("subclassed"), batch_size=4, shuffle=False, verbose=0)
        assert float(array(either.selection.control.temperature)) == 200.0
        assert either.has_soft_gates
    pairs = zip(
        [*model.variables, *model.optimizer.variables],
        [*loaded.variables, *loaded.optimizer.variables],
        strict=True,
    )
    metrics = {id(variable) for variable in model.metrics_variables}
    for variable, twin in pairs:
        if id(variable) not in metrics:
            np.testing.assert_array_equal(array(twin), array(variable), err_msg=variable.path)


def test_summary_flops_and_export_of_what_was_found(search, make_data, tmp_path):
    _, _, model = search(mode="prune", rounds=1)
    kept = sum(np.count_nonzero(mask) for mask in model.get_masks().values())
    assert tfl.summary(model).density == kept / 72
    assert tfl.flops(model, "mac").sparse == kept
    x, _ = make_data()
    predicted = model.predict(x, verbose=0)
    if keras.backend.backend() == "tensorflow":
        pytest.importorskip("ai_edge_litert")
        report = tfl.export_tflite(model, tmp_path / "model.tflite", storage="dense")
        assert pathlib.Path(report.path).stat().st_size > 0
    stripped = tfl.strip(model)
    np.testing.assert_allclose(stripped.predict(x, verbose=0), predicted, atol=1e-6)
    assert sum(np.count_nonzero(array(layer.kernel)) for layer in stripped.layers) == kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs_per_round": 0}, "`epochs_per_round` must be an integer > 0"),
        ({"epochs_per_round": 1, "anneal": "epoch"}, "`epochs_per_round` must be above 1"),
        ({"rounds": 0}, "`rounds` must be an integer > 0"),
        ({"rounds": 1.5}, "`rounds`"),
        ({"final_temperature": 1.0}, "`final_temperature` must be a number > 1"),
        ({"final_temperature": float("inf")}, "`final_temperature`"),
        ({"rewind_to_epoch": -1}, "`rewind_to_epoch` must be an integer >= 0"),
        ({"rewind_to_epoch": 4}, "`rewind_to_epoch` must be below `epochs_per_round`, 4"),
        ({"mode": "tickets"}, "`mode` must be one of"),
        ({"anneal": "batch"}, "`anneal` must be one of"),
        ({"retrain_epochs": -1}, "`retrain_epochs` must be an integer >= 0"),
        ({"target_density": 0.0}, "`target_density` must be above 0"),
        ({"target_density": 1.0}, "`target_density` must be in"),
        ({"target_density": "0.1"}, "`target_density` must be a number"),
        ({"exact_density": True}, "`exact_density` needs a `target_density`"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        ContinuousSparsification(**{"epochs_per_round": 4, **arguments})


def test_defaults():
    search = ContinuousSparsification(85)
    assert (search.rounds, search.final_temperature, search.rewind_to_epoch) == (3, 200.0, 2)
    assert (search.mode, search.anneal, search.retrain_epochs) == ("ticket", "step", 85)
    assert search.epochs == 340
    assert ContinuousSparsification(85, mode="prune").epochs == 255
    assert ContinuousSparsification(2).rewind_to_epoch == 1
    assert ContinuousSparsification(1).rewind_to_epoch == 0


def test_models_without_gates_are_refused(search, make_model, compile_model):
    with pytest.raises(ValueError, match="`model` must be a `SparseModel`"):
        search(model=compile_model(make_model()))
    model = compile_model(tfl.sparsify(make_model()))
    with pytest.raises(ValueError, match="`model` must have gates.*Received: 'sparse_"):
        search(model=model)


@pytest.mark.parametrize("arguments", [{}, {"anneal": "epoch", "target_density": 0.5}])
def test_data_of_unknown_size_are_refused(arguments, make_model, compile_model):
    def forever():
        while True:
            yield np.zeros((4, 6), "float32"), np.zeros(4, "int32")

    model = compile_model(tfl.sparsify(make_model(), gate=tfl.SoftGate()))
    search = ContinuousSparsification(2, rounds=1, verbose=0, **arguments)
    with pytest.raises(ValueError, match="pass `steps_per_epoch` to `fit`.*Received"):
        model.fit(forever(), epochs=2, verbose=0, callbacks=[search])


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
)
def test_schedules_of_weights_and_gates_restart_in_every_round(search):
    rates = keras.optimizers.schedules
    gates = keras.optimizers.SGD(rates.CosineDecay(0.1, 12), momentum=0.9)
    gate = tfl.SoftGate(learning_rate_multiplier=20.0, optimizer=gates)
    weights = keras.optimizers.SGD(rates.CosineDecay(0.05, 12), momentum=0.9)
    counts = []

    class Count(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            counts.append([float(o.iterations) for o in self.model.optimizer.optimizers])

    callback, watch, model = search(gate, weights, others=[Count()], rounds=2)
    assert callback.failure is None and callback.has_ended()
    # Two rounds and the retraining, of two epochs each.
    expected = [step % (2 * STEPS) for step in range(6 * STEPS)]
    assert [step for step, _ in counts] == [step for _, step in counts] == expected
    assert watch.steps == expected
