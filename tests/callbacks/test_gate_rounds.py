import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import ContinuousSparsification
from tf_lottery.callbacks.gate_rounds import keep_exactly, reset_gates


@pytest.fixture
def data(make_data):
    return make_data()


@pytest.fixture
def make_gated(make_model, compile_model):
    def make(optimizer=None, **gate):
        gate = {"learning_rate_multiplier": 20.0, **gate}
        model = tfl.sparsify(make_model(), gate=tfl.SoftGate(**gate))
        return compile_model(model, optimizer, run_eagerly=False)

    return make


def fit(model, data, callbacks=(), epochs=1, **kwargs):
    model.fit(
        *data,
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **kwargs,
    )


def search(model, data, others=(), **kwargs):
    arguments = {"epochs_per_round": 2, "rounds": 1, "verbose": 0, **kwargs}
    found = ContinuousSparsification(**arguments)
    fit(model, data, [*others, found], found.epochs)
    return found


def assert_same_masks(model, ticket):
    for path, mask in model.get_masks().items():
        np.testing.assert_array_equal(mask, ticket.masks[path])


def schedule_free():
    if not hasattr(keras.optimizers, "ScheduleFreeAdamW"):
        pytest.skip("this version of Keras has no ScheduleFreeAdamW")
    return keras.optimizers.ScheduleFreeAdamW(0.01)


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "average": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=3),
    "schedule_free": schedule_free,
}


@pytest.mark.filterwarnings("ignore:.* undecided")
@pytest.mark.parametrize(
    ("optimizer", "mode"),
    [
        ("average", "prune"),
        ("schedule_free", "ticket"),
        *(
            pytest.param(*cell, marks=pytest.mark.thorough("others keep more than this optimizer"))
            for cell in (
                ("adam", "prune"),
                ("adam", "ticket"),
                ("momentum", "prune"),
                ("momentum", "ticket"),
                ("average", "ticket"),
                ("schedule_free", "prune"),
            )
        ),
    ],
)
def test_settled_masks_survive_further_training(optimizer, mode, make_gated, data):
    if (optimizer, keras.backend.backend()) == ("average", "jax"):
        pytest.skip("Keras on JAX cannot train again after writing averages into the weights")
    model = make_gated(OPTIMIZERS[optimizer]())
    found = search(model, data, mode=mode)
    assert 0 < found.tickets[-1].density < 1
    assert_same_masks(model, found.tickets[-1])
    fit(model, data, epochs=2)
    assert_same_masks(model, found.tickets[-1])


@pytest.mark.filterwarnings("ignore:.* undecided")
@pytest.mark.parametrize(
    ("optimizer", "mode"),
    [
        ("adam", "prune"),
        ("average", "ticket"),
        *(
            pytest.param(*cell, marks=pytest.mark.thorough("its parts are met in other cells"))
            for cell in (("adam", "ticket"), ("average", "prune"))
        ),
    ],
)
def test_without_retraining_the_model_is_the_ticket(optimizer, mode, make_gated, data):
    model = make_gated(OPTIMIZERS[optimizer]())
    found = search(model, data, mode=mode, retrain_epochs=0)
    for path, kernel in model.get_kernels().items():
        expected = found.tickets[-1].weights[path] * found.tickets[-1].masks[path]
        np.testing.assert_allclose(kernel, expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.* undecided")
def test_evaluation_of_settled_gates_leaves_them_settled(make_gated, data):
    model = make_gated()
    found = search(model, data, mode="prune")
    model.evaluate(*data, verbose=0, callbacks=[found])
    assert not model.has_soft_gates


@pytest.mark.filterwarnings("ignore:.* undecided")
def test_restored_soft_gates_are_warned_about(make_gated, data):
    class Restore(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.weights = self.weights if epoch else self.model.get_weights()

        def on_train_end(self, logs=None):
            self.model.set_weights(self.weights)

    with pytest.warns(UserWarning, match="soft though the search has ended"):
        search(make_gated(), data, [Restore()], mode="prune")


@pytest.mark.filterwarnings("ignore:.* undecided", "ignore:Training failed")
def test_failed_second_search_leaves_the_first_ones_masks(make_gated, data):
    model = make_gated()
    first = search(model, data)
    x, y = data
    second = search(model, (np.full_like(x, np.nan), y))
    assert second.failure and not second.tickets
    assert_same_masks(model, first.tickets[-1])
    assert not model.has_soft_gates


@pytest.mark.filterwarnings("ignore:Training failed")
def test_collapse_in_an_early_round_is_found_before_an_exact_one(make_gated, data):
    model = make_gated(initial_value=-5.0, rescale=False)
    found = search(model, data, rounds=2, target_density=0.5, exact_density=True)
    assert "all gates are closed" in found.failure
    assert found.tickets == []


def test_interrupted_evaluation_does_not_close_the_gates(make_gated, data):
    model = make_gated(learning_rate_multiplier=1.0)
    control = model.selection.control
    control.anneal(100, 200.0)
    control.harden(True)
    fit(model, data)
    assert float(control.threshold.numpy()) == 0.0
    assert float(control.temperature.numpy()) == pytest.approx(200 ** (5 / 100))


def test_settled_gates_outlive_a_loss_that_is_not_finite(make_gated, data):
    # No clipping by norm: with it, one NaN gradient would make all gradients NaN.
    model = make_gated(OPTIMIZERS["adam"]())
    path, mask = next(iter(model.get_masks().items()))
    kept = {path: np.resize([True, False, True], mask.shape)}
    model.set_masks(kept)
    x, y = data
    fit(model, (np.full_like(x, np.nan), y))
    np.testing.assert_array_equal(model.get_masks()[path], kept[path])


def test_reset_of_gates(make_gated):
    gated = make_gated(initial_value=0.5).selection
    gated.set_values([np.resize([-0.01, 0.001, 3.0], gate.shape) for gate in gated.gates])
    reset_gates(gated, final_temperature=200.0)
    np.testing.assert_allclose(gated.values[0].flat[:3], [-2.0, 0.2, 0.5], rtol=1e-6)


def test_exact_density_that_needs_closed_gates_is_warned_about(make_gated):
    model = make_gated(initial_value=-1.0)
    with pytest.warns(UserWarning, match="keeps open had closed"):
        keep_exactly(model, 0.25)
    assert model.density == 0.25


@pytest.mark.filterwarnings("ignore:.* undecided")
def test_steering_is_saved(make_gated, data, tmp_path):
    model = make_gated()
    search(model, data, target_density=0.5, retrain_epochs=0)
    model.selection.control.steers = True
    model.save(tmp_path / "gated.keras")
    assert keras.saving.load_model(tmp_path / "gated.keras").selection.control.steers
