import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import RigL
from tf_lottery.sparsity.schedules import Constant

pytestmark = pytest.mark.backend

INPUTS, UNITS, BATCH = 6, 5, 4


@pytest.fixture
def model():
    """One linear layer with a known gradient, half of it pruned."""
    model = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(UNITS, use_bias=False)])
    rng = np.random.default_rng(3)
    model.layers[0].kernel.assign(rng.normal(size=(INPUTS, UNITS)))
    model = tfl.sparsify(model, 0.5, scores="random", seed=3)
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    return model


def data(num_batches):
    rng = np.random.default_rng(4)
    size = BATCH * num_batches
    x, y = rng.normal(size=(size, INPUTS)), rng.normal(size=(size, UNITS))
    return x.astype("float32"), y.astype("float32")


def rigl_by_hand(kernel, mask, x, y, frequency, num_summed, share, learning_rate=0.1):
    """Runs algorithm 1 of arXiv:1911.11134 for a linear layer and the mean squared error."""
    kernel = kernel * mask
    gradients = []
    for step, (a, b) in enumerate(
        zip(np.split(x, len(x) // BATCH), np.split(y, len(y) // BATCH), strict=True), start=1
    ):
        gradients.append(2 / b.size * a.T @ (a @ kernel - b))
        kernel = kernel - learning_rate * gradients[-1] * mask
        if step % frequency:
            continue
        num_moved = int(mask.sum() * share)
        active = np.flatnonzero(mask)
        dropped = active[np.argsort(np.abs(kernel.flat[active]))[:num_moved]]
        kept = np.setdiff1d(active, dropped)
        scores = np.abs(sum(gradients[-num_summed:]))
        scores.flat[kept] = -1
        grown = np.argsort(-scores, axis=None)[:num_moved]
        old, mask = mask, np.zeros_like(mask)
        mask.flat[np.concatenate([kept, grown])] = True
        kernel = kernel * mask * old
    return kernel, mask


@pytest.mark.parametrize("num_summed", [1, 2, 3])
def test_against_the_algorithm_by_hand(num_summed, model):
    x, y = data(12)
    [path] = model.kernels
    kernel, mask = model.get_kernels()[path], model.get_masks()[path]
    expected = rigl_by_hand(kernel, mask, x, y, 3, num_summed, 0.4)
    method = RigL(3, Constant(0.4), end_step=100, grad_accumulation=num_summed)
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[method])
    np.testing.assert_array_equal(model.get_masks()[path], expected[1])
    np.testing.assert_allclose(model.get_kernels()[path], expected[0], rtol=1e-4, atol=1e-6)
    assert np.any(expected[1] != mask)


def test_accumulation_can_last_from_update_to_update_only():
    with pytest.raises(ValueError, match="must not exceed `frequency`"):
        RigL(frequency=3, grad_accumulation=4)
    with pytest.raises(ValueError, match="`grad_accumulation` must be an integer > 0"):
        RigL(grad_accumulation=0)


@pytest.mark.parametrize("stop", [4, 5])
def test_accumulated_gradients_survive_saving(stop, model, tmp_path):
    x, y = data(12)
    method = RigL(6, Constant(0.4), end_step=100, grad_accumulation=4)
    first, rest = slice(0, stop * BATCH), slice(stop * BATCH, None)

    def fit(model, part):
        model.fit(x[part], y[part], batch_size=BATCH, shuffle=False, verbose=0, callbacks=[method])

    with pytest.warns(UserWarning, match="masks are those of the start"):
        fit(model, first)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    before, masks = model.get_masks(), []
    for either in (model, loaded):
        fit(either, rest)
        masks += either.get_masks().values()
    np.testing.assert_array_equal(masks[0], masks[1])
    assert np.any(masks[0] != next(iter(before.values())))


def test_updates_go_on_after_the_step_was_set_back(model):
    x, y = data(6)
    start, replaced = tfl.Snapshot(model), []

    class Rewind(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            replaced.append(logs["replaced"])
            start.restore(self.model, kinds=("weights", "optimizer", "step"))

    method = RigL(2, Constant(0.4), end_step=6)
    model.fit(
        x, y, batch_size=BATCH, epochs=3, shuffle=False, verbose=0, callbacks=[method, Rewind()]
    )
    assert min(replaced) > 0


def test_sums_do_not_leak_into_the_next_training(model):
    x, y = data(6)
    method = RigL(2, Constant(0.4), end_step=5, grad_accumulation=2)
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[method])
    assert not any(np.any(gradient) for gradient in model.growth.gradients)
