import warnings

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import ContinuousSparsification
from tf_lottery.callbacks.gate_health import warn_of_soft_gates

pytestmark = pytest.mark.backend

STEPS = 6


def array(variable):
    return keras.ops.convert_to_numpy(variable).copy()


class Break(keras.callbacks.Callback):
    """Sets the values of all gates after a given batch."""

    def __init__(self, batch, value):
        super().__init__()
        self.batch, self.value = batch, value

    def on_train_batch_end(self, batch, logs=None):
        self.batch -= 1
        if self.batch == 0:
            for gate in self.model.selection.gates:
                gate.assign(np.full(gate.shape, self.value))


@pytest.fixture
def fail(make_model, make_data, compile_model):
    """Returns a function: runs a search that breaks; returns callback, model, initial weights."""

    def run(batch, value, mode="ticket"):
        gate = tfl.SoftGate(learning_rate_multiplier=20.0)
        model = compile_model(tfl.sparsify(make_model(), gate=gate), keras.optimizers.SGD(0.1))
        start = [array(weight) for weight in model.model.weights]
        search = ContinuousSparsification(2, rounds=3, mode=mode, verbose=0)
        x, y = make_data()
        logs = model.fit(
            x, y, batch_size=4, shuffle=False, verbose=0, epochs=search.epochs,
            callbacks=[search, Break(batch, value)],
        ).history  # fmt: skip
        return search, model, start, logs

    return run


ADVICE = [(np.nan, r"SoftGate\(rescale=False\)"), (-1.0, "Raise `initial_value`")]


@pytest.mark.parametrize(("value", "advice"), ADVICE)
def test_failure_in_the_first_round_takes_the_epoch_back(value, advice, fail):
    with pytest.warns(UserWarning, match=f"failed in epoch 1: .*{advice}.*as they were at step 6"):
        search, model, _, logs = fail(2 * STEPS, value)
    gates = [f"the gates of {path}" for path in model.kernels]
    not_finite = f"at step 12 NaN or infinity is in {gates}"
    assert search.failure.split(".")[0] == (
        not_finite if np.isnan(value) else "all gates are closed"
    )
    assert len(logs["loss"]) == 2
    assert model.has_soft_gates
    assert search.tickets == []
    assert all(np.isfinite(kernel).all() for kernel in model.get_kernels().values())


def test_tickets_of_earlier_rounds_are_kept(fail):
    with pytest.warns(UserWarning, match="failed in epoch 2: at step 4"):
        search, model, _, _ = fail(2 * STEPS + 3, np.nan)
    [ticket] = search.tickets
    assert model.has_soft_gates
    assert 0 < ticket.density < 1
    assert all(np.isfinite(weight).all() for weight in ticket.weights.values())


def test_high_rate_is_found_out(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model(), gate=tfl.SoftGate()), "sgd")
    model.optimizer.learning_rate = 1e9
    search = ContinuousSparsification(2, rounds=1, verbose=0)
    with pytest.warns(UserWarning, match="`tfl.SoftGate\\(rescale=False\\)`"):
        model.fit(*make_data(), batch_size=4, epochs=4, verbose=0, callbacks=[search])
    assert all(np.all(np.isfinite(kernel)) for kernel in model.get_kernels().values())


def test_closed_gates_within_a_round_are_no_failure(fail):
    search, model, _, _ = fail(STEPS, -1e-4, "prune")
    assert search.failure is None
    assert len(search.tickets) == 3
    assert model.density > 0


def test_missed_target_is_warned_about(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model(), gate=tfl.SoftGate(1.0)))
    search = ContinuousSparsification(1, rounds=1, mode="prune", target_density=0.1, verbose=0)
    with pytest.warns(UserWarning, match="density is 1.0000 where 0.1 was asked for"):
        model.fit(*make_data(), epochs=1, verbose=0, callbacks=[search])


def test_gates_that_are_soft_again_are_warned_of(make_model):
    model = tfl.sparsify(make_model(), gate=tfl.SoftGate(0.1))
    with pytest.warns(UserWarning, match="The gates are soft though the search has ended"):
        warn_of_soft_gates(model)
    model.apply_masks()
    with warnings.catch_warnings(action="error", category=UserWarning):
        warn_of_soft_gates(model)
