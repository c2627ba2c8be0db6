import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.growth import prepare_collecting
from tf_lottery.layers import Gates, Masked, SoftGate
from tf_lottery.optimizers import training_step
from tf_lottery.training import Training

pytestmark = pytest.mark.backend

KERNEL = np.array([[2.0, -1.0], [0.5, 4.0], [-3.0, 1.0]], "float32")
VALUES = np.array([[0.01, -0.02], [0.0, 0.03], [-0.005, 0.002]], "float32")
INPUTS = np.array([[1.0, 2.0, -1.0], [0.5, -2.0, 3.0]], "float32")

# Zero data gives no gradient, so only the penalty changes gates.
NOTHING = np.zeros((2, 3), "float32"), np.zeros((2, 2), "float32")


@pytest.fixture
def make_gated():
    """Returns a function that makes a gated layer with known weights and gate values."""

    def make(**gate):
        gated = Masked(layers.Dense(2, use_bias=False), selection=Gates(SoftGate(**gate)))
        gated.build((None, 3))
        gated.kernels[0].assign(KERNEL)
        gated.selection.set_values([VALUES])
        return gated

    return make


@pytest.fixture
def make_trainable():
    """Returns a function that makes a compiled model of one kernel with a gate."""

    def make(optimizer, kernel=KERNEL, **gate):
        dense = layers.Dense(2, use_bias=False)
        model = tfl.sparsify(keras.Sequential([keras.Input((3,)), dense]), gate=SoftGate(**gate))
        dense.kernel.assign(kernel)
        model.compile(optimizer, "mean_squared_error")
        return model

    return make


def array(variable):
    return keras.ops.convert_to_numpy(variable).copy()


def by_hand(values, scale=1.0, temperature=1.0):
    return scale / (1 + np.exp(-temperature * values.astype("float64")))


@pytest.mark.parametrize(("initial_value", "scale"), [(0.0, 2.0), (-0.1, 1 + np.exp(0.1))])
@pytest.mark.parametrize("temperature", [1.0, 7.5, 200.0])
def test_computes_with_the_gated_kernel(initial_value, scale, temperature, make_gated):
    gated = make_gated(initial_value=initial_value)
    gated.selection.control.temperature.assign(temperature)
    expected = INPUTS @ (KERNEL * by_hand(VALUES, scale, temperature))
    for training in (True, False):
        np.testing.assert_allclose(gated(INPUTS, training=training), expected, rtol=1e-5)
    np.testing.assert_array_equal(array(gated.kernels[0]), KERNEL)


def test_untrained_gates_change_nothing(make_gated):
    for initial_value in (-0.3, 0.0, 0.2):
        gated = make_gated(initial_value=initial_value)
        gated.selection.reopen()
        np.testing.assert_allclose(gated(INPUTS), INPUTS @ KERNEL, rtol=1e-5)


def test_hard_gates_are_strictly_above_zero(make_gated):
    gated = make_gated()
    gated.selection.set_values([np.array([[1e-6, -1e-6], [0.0, 0.1], [-50.0, 50.0]])])
    expected = np.array([[1, 0], [0, 1], [0, 1]])
    np.testing.assert_array_equal(gated.get_masks()[0], expected == 1)
    gated.selection.control.harden(True)
    np.testing.assert_allclose(gated(INPUTS), INPUTS @ (2 * KERNEL * expected), rtol=1e-6)
    np.testing.assert_array_equal(gated.get_kernels()[0], 2 * KERNEL * expected)


def test_gradients_and_the_loss_of_a_step(make_trainable):
    scale, temperature, penalty, rate = 1 + np.exp(0.2), 5.0, 0.03, 0.5
    model = make_trainable(keras.optimizers.SGD(rate), initial_value=-0.2, penalty=penalty)
    model.selection.set_values([VALUES])
    model.selection.control.temperature.assign(temperature)
    y = np.ones((2, 2), "float32")
    gate = by_hand(VALUES, scale, temperature)
    error = INPUTS @ (KERNEL * gate) - y
    upstream = 2 / y.size * INPUTS.T @ error
    slope = temperature * gate * (1 - gate / scale)
    loss = model.train_on_batch(INPUTS, y)
    np.testing.assert_allclose(loss, np.mean(error**2) + penalty * gate.sum(), rtol=1e-6)
    expected = VALUES - rate * (upstream * KERNEL + penalty) * slope
    np.testing.assert_allclose(model.selection.values[0], expected, rtol=1e-5)
    kernel = model.wrapper.kernels[0]
    np.testing.assert_allclose(kernel, KERNEL - rate * upstream * gate, rtol=1e-5)


def test_penalty_is_the_sum_of_all_gates_once_a_step_in_training_only():
    inputs, shared = keras.Input((3,)), layers.Dense(3, use_bias=False)
    plain = keras.Model(inputs, layers.Dense(2)(shared(layers.ReLU()(shared(inputs)))))
    model = tfl.sparsify(plain, gate=SoftGate(0.3, penalty=1e-3, rescale=False))
    # A kernel that is used twice still has nine gates.
    expected = 1e-3 * (9 + 6) / (1 + np.exp(-0.3))
    for _ in range(2):
        model(INPUTS, training=True)
        assert [float(loss) for loss in model.losses] == pytest.approx([expected], rel=1e-5)
    assert model.selection.loss_of_gates == pytest.approx(expected, rel=1e-5)
    model(INPUTS, training=False)
    assert model.losses == []
    model.compile("sgd", "mse")
    outputs, labels = array(model(INPUTS)), np.zeros((2, 2), "float32")
    evaluated = model.evaluate(INPUTS, labels, verbose=0)
    assert evaluated == pytest.approx(np.mean(outputs**2), rel=1e-5)
    # Keras 3.12 would return a mean that includes the evaluation.
    model.reset_metrics()
    trained = model.train_on_batch(INPUTS, labels)
    assert trained == pytest.approx(np.mean(outputs**2) + expected, rel=1e-5)


def test_normalized_penalty_is_a_mean(make_gated):
    plain = make_gated(penalty=1e-3)
    mean = make_gated(penalty=1e-3, normalize=True)
    expected = 1e-3 * by_hand(VALUES, 2.0).sum()
    assert plain.selection.loss_of_gates == pytest.approx(expected, rel=1e-6)
    assert mean.selection.loss_of_gates == pytest.approx(expected / 6, rel=1e-6)
    mean(INPUTS, training=True)
    assert [float(loss) for loss in mean.losses] == pytest.approx([expected / 6], rel=1e-6)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16", "float16"], indirect=True)
def test_gates_are_float32_in_every_precision(precision, make_trainable):
    model = make_trainable(keras.optimizers.Adam(1e-4), initial_value=0.1)
    assert {gate.dtype for gate in model.selection.gates} == {"float32"}
    # Near 0.1, neighboring float16 numbers differ by 6e-5, bfloat16 numbers by 4e-4.
    value = np.float32(0.1 + 1e-5)
    model.selection.set_values([np.full((3, 2), value)])
    model.selection.control.temperature.assign(10.0)
    expected = 1e-8 * by_hand(np.full((3, 2), value), model.selection.gate.scale, 10.0).sum()
    assert model.selection.loss_of_gates == pytest.approx(expected, rel=1e-6)
    # The loss scale is too high at first, which skips steps.
    while not training_step(model.optimizer):
        model.train_on_batch(INPUTS, np.ones((2, 2)))
    # The first step of Adam is the learning rate, which on PyTorch has the dtype of the
    # first variable.
    rtol = 0.03 if keras.backend.backend() == "torch" else 1e-2
    np.testing.assert_allclose(np.abs(model.selection.values[0] - value), 1e-4, rtol=rtol)


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.01),
    "momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(1e-3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rate_multiplier_multiplies_the_movement(name, make_trainable):
    multiplier, moved = 8.0, {}
    for factor in (1.0, multiplier):
        model = make_trainable(
            OPTIMIZERS[name](), initial_value=0.5, learning_rate_multiplier=factor, penalty=1e-2
        )
        np.testing.assert_allclose(model.selection.values[0], np.full((3, 2), 0.5), rtol=1e-6)
        model.train_on_batch(*NOTHING)
        moved[factor] = model.selection.values[0] - 0.5
    assert np.all(moved[1.0] < 0)
    np.testing.assert_allclose(moved[multiplier], multiplier * moved[1.0], rtol=1e-3)


@pytest.mark.parametrize("name", ["sgd", "momentum"])
def test_multiplied_movement_by_hand(name, make_trainable):
    rate, momentum, multiplier, penalty = 0.01, 0.9 * (name == "momentum"), 8.0, 0.5
    optimizer = keras.optimizers.SGD(rate, momentum=momentum)
    model = make_trainable(
        optimizer, initial_value=0.5, learning_rate_multiplier=multiplier, penalty=penalty
    )
    value, velocity, scale = 0.5, 0.0, 1 + np.exp(-0.5)
    for _ in range(5):
        model.train_on_batch(*NOTHING)
        gate = by_hand(np.array(value), scale)
        velocity = momentum * velocity - rate * penalty * gate * (1 - gate / scale)
        value += multiplier * velocity
        np.testing.assert_allclose(model.selection.values[0], np.full((3, 2), value), rtol=1e-6)


def test_stochastic_gates_are_drawn_in_training_only(make_gated):
    gated = make_gated(stochastic=True, initial_value=0.5)
    gated.selection.set_values([np.full((3, 2), 0.5)])
    scale = 1 + np.exp(-0.5)
    drawn = []
    for _ in range(200):
        [(_, kernel)] = gated.effective_kernels(training=True)
        drawn.append(array(kernel) / KERNEL)
    drawn = np.stack(drawn)
    is_open = np.abs(drawn - scale) < 1e-5
    assert np.all(is_open | (np.abs(drawn) < 1e-6))
    # 1200 draws with probability 0.622: the standard deviation of the mean is 0.014.
    assert is_open.mean() == pytest.approx(1 / (1 + np.exp(-0.5)), abs=0.05)
    assert len(np.unique(is_open, axis=0)) > 20
    [(_, kernel)] = gated.effective_kernels(training=False)
    np.testing.assert_allclose(kernel, KERNEL, rtol=1e-6)


def test_stochastic_gates_pass_gradients_straight_through(make_trainable):
    rate, scale = 0.5, 1 + np.exp(-0.4)
    model = make_trainable(
        keras.optimizers.SGD(rate), initial_value=0.4, penalty=0.0, stochastic=True
    )
    model.train_on_batch(np.eye(3, dtype="float32"), np.zeros((3, 2)))
    # With y = kernel * gate, the gradient is 2 / 6 * y, and 0 for closed gates.
    slope = 1 * (1 - 1 / scale)
    opened = KERNEL - rate * 2 / 6 * KERNEL * scale * scale
    is_open = np.isclose(array(model.wrapper.kernels[0]), opened, rtol=1e-5)
    assert 0 < is_open.sum() < 6
    np.testing.assert_array_equal(array(model.wrapper.kernels[0])[~is_open], KERNEL[~is_open])
    expected = 0.4 - rate * 2 / 6 * scale * KERNEL * KERNEL * slope * is_open
    np.testing.assert_allclose(model.selection.values[0], expected, rtol=1e-5)


def test_settled_gates_are_part_of_the_kernels(make_gated):
    gated = make_gated(initial_value=-0.1)
    mask = VALUES > 0
    expected = KERNEL * np.float32(1 + np.exp(0.1)) * mask
    gated.selection.control.harden(True)
    hard = array(gated(INPUTS))
    gated.selection.control.harden(False)
    gated.apply_masks()
    assert not gated.selection.is_soft
    np.testing.assert_allclose(gated.kernels[0], expected, rtol=1e-6)
    np.testing.assert_allclose(gated(INPUTS, training=True), hard, rtol=1e-6)
    assert float(gated.selection.scale) == 1.0
    assert [float(loss) for loss in gated.losses] == [0.0]
    gated.apply_masks()
    np.testing.assert_allclose(gated.kernels[0], expected, rtol=1e-6)


def test_settled_gates_are_frozen_bit_for_bit(make_trainable):
    model = make_trainable(keras.optimizers.AdamW(0.1, weight_decay=0.1), penalty=1.0)
    model.selection.set_values([VALUES])
    model.apply_masks()
    for _ in range(3):
        model.train_on_batch(INPUTS, np.ones((2, 2)))
    np.testing.assert_array_equal(model.selection.values[0], VALUES)
    kernel = model.get_kernels()[next(iter(model.kernels))]
    assert np.all((kernel != 0) == (VALUES > 0))
    assert np.all(kernel[VALUES > 0] != 2 * KERNEL[VALUES > 0])


def test_masks_set_by_hand_settle_the_gates(make_gated):
    gated = make_gated()
    mask = np.array([[True, True], [False, False], [True, False]])
    gated.set_masks([mask])
    np.testing.assert_array_equal(gated.get_masks()[0], mask)
    np.testing.assert_array_equal(gated.kernels[0], KERNEL * mask)
    np.testing.assert_array_equal(gated(INPUTS), INPUTS @ (KERNEL * mask))
    assert not gated.selection.is_soft
    assert gated.selection.values[0][0, 0] == pytest.approx(0.01)
    gated.set_masks([mask & (KERNEL > 0)])
    np.testing.assert_array_equal(gated.kernels[0], KERNEL * (mask & (KERNEL > 0)))


def test_reopened_gates_start_again_but_closed_ones_stay_closed(make_gated):
    gated = make_gated(initial_value=0.2)
    gated.selection.reopen()
    np.testing.assert_allclose(gated.selection.values[0], np.full((3, 2), 0.2), rtol=1e-6)
    mask = VALUES > 0
    gated.set_masks([mask])
    gated.selection.reopen()
    assert gated.selection.is_soft
    np.testing.assert_allclose(gated.selection.values[0], np.where(mask, 0.2, -1000.0), rtol=1e-6)
    assert float(gated.selection.scale) == pytest.approx(1 + np.exp(-0.2))
    expected = INPUTS @ (array(gated.kernels[0]) * mask)
    np.testing.assert_allclose(gated(INPUTS, training=True), expected, rtol=1e-5)


def test_there_are_no_masks_besides_the_gates(make_gated):
    gated = make_gated()
    assert gated.selection.num_gates == 6
    assert [tuple(gate.shape) for gate in gated.selection.gates] == [(3, 2)]
    assert [gate.name for gate in gated.trainable_variables] == ["kernel", "gate_0"]
    assert {bool(gate.regularizer) for gate in gated.selection.gates} == {False}


@pytest.mark.parametrize("stochastic", [False, True])
def test_functional_model_with_a_wrapper_survives_saving(stochastic, tmp_path):
    inputs = keras.Input((3,))
    gates = Gates(SoftGate(-0.1, stochastic=stochastic))
    gated = Masked(layers.Dense(2, use_bias=False), selection=gates)
    model = keras.Model(inputs, gated(inputs))
    gated.selection.set_values([VALUES])
    gated.selection.control.anneal(10, 200.0)
    for _ in range(4):
        model(INPUTS, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    wrapper = loaded.layers[1]
    assert wrapper.selection.gate == gated.selection.gate
    for training in (False, True, True):
        np.testing.assert_array_equal(
            array(loaded(INPUTS, training=training)), array(model(INPUTS, training=training))
        )
    assert float(wrapper.selection.control.temperature) == pytest.approx(200**0.5)


def test_gate_has_defaults():
    gated = Masked(layers.Dense(2), selection=Gates())
    gated.build((None, 3))
    assert gated.selection.gate == SoftGate()
    assert float(gated.selection.control.penalty) == pytest.approx(1e-8)


@pytest.mark.parametrize("pattern", ["2:4", "4x1", "channel"])
def test_structured_patterns_are_refused(pattern):
    with pytest.raises(ValueError, match=f"`pattern` must be 'unstructured'.*Received.*{pattern}"):
        Masked(layers.Dense(4), pattern=pattern, selection=Gates())


def test_something_else_than_a_gate_is_refused():
    with pytest.raises(ValueError, match="`gate` must be a `tfl.SoftGate`. Received: 'soft'"):
        Gates("soft")


def test_connections_cannot_grow_where_gates_decide(make_trainable):
    model = make_trainable("sgd")
    with pytest.raises(ValueError, match="`model` must have masks.*Received: .* Gates"):
        prepare_collecting(Training.of(model))
