"""Methods that grow by gradients, with optimizers that accumulate gradients over batches."""

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import SNFS, RigL
from tf_lottery.sparsity.schedules import Constant

pytestmark = pytest.mark.backend

INPUTS, UNITS, BATCH, NUM_BATCHES, SHARE, LEARNING_RATE = 6, 5, 4, 12, 0.4, 0.1


@pytest.fixture
def make_linear():
    """Returns a function: makes a half-pruned linear layer with a known gradient."""

    def make(optimizer, steps_per_execution=1):
        layers = [keras.Input((INPUTS,)), keras.layers.Dense(UNITS, use_bias=False)]
        model = keras.Sequential(layers)
        model.layers[0].kernel.assign(np.random.default_rng(3).normal(size=(INPUTS, UNITS)))
        model = tfl.sparsify(model, 0.5, scores="random", seed=3)
        model.compile(
            optimizer,
            "mean_squared_error",
            auto_scale_loss=False,
            steps_per_execution=steps_per_execution,
        )
        return model

    return make


def batches():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(NUM_BATCHES, BATCH, INPUTS)).astype("float32")
    return x, rng.normal(size=(NUM_BATCHES, BATCH, UNITS)).astype("float32")


def fit(model, method, start=0, stop=NUM_BATCHES):
    x, y = batches()
    x, y = (np.concatenate(array[start:stop]) for array in (x, y))
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[method])


def by_hand(kernel, mask, accumulated, update_steps, num_gradients=1, momentum=None):
    """Trains a linear layer, and grows connections with large dense gradients.

    Each step of the optimizer and the momentum uses the mean gradient of `accumulated` batches.
    """
    kernel, gradients, means, average = kernel * mask, [], [], 0.0
    for step, (x, y) in enumerate(zip(*batches(), strict=True), start=1):
        gradients.append(2 / y.size * x.T @ (x @ kernel - y))
        if step % accumulated == 0:
            means.append(sum(gradients[-accumulated:]) / accumulated)
            kernel = kernel - LEARNING_RATE * means[-1] * mask
            if momentum is not None:
                average = momentum * average + (1 - momentum) * means[-1]
        if step not in update_steps:
            continue
        num_moved = int(mask.sum() * SHARE)
        active = np.flatnonzero(mask)
        dropped = active[np.argsort(np.abs(kernel.flat[active]))[:num_moved]]
        kept = np.setdiff1d(active, dropped)
        scores = np.abs(sum(means[-num_gradients:]) if momentum is None else average)
        scores.flat[kept] = -1
        grown = np.argsort(-scores, axis=None)[:num_moved]
        old, mask = mask, np.zeros_like(mask)
        mask.flat[np.concatenate([kept, grown])] = True
        kernel = kernel * mask * old
    return kernel, mask


def check(model, method, **expected):
    [path] = model.kernels
    kernel, before = model.get_kernels()[path], model.get_masks()[path]
    fit(model, method)
    kernel, mask = by_hand(kernel, before, **expected)
    np.testing.assert_array_equal(model.get_masks()[path], mask)
    np.testing.assert_allclose(model.get_kernels()[path], kernel, rtol=1e-4, atol=1e-6)
    assert np.any(mask != before)


@pytest.mark.parametrize(
    ("accumulated", "frequency", "update_steps"),
    # Updates that are due in between wait until the optimizer changes the weights.
    [(2, 4, [4, 8, 12]), (3, 4, [6, 9, 12]), (4, 3, [4, 8, 12])],
)
def test_rigl_by_hand(accumulated, frequency, update_steps, make_linear):
    sgd = keras.optimizers.SGD(LEARNING_RATE, gradient_accumulation_steps=accumulated)
    method = RigL(frequency, Constant(SHARE), end_step=100)
    check(make_linear(sgd), method, accumulated=accumulated, update_steps=update_steps)


def test_rigl_with_the_mean_over_steps_by_hand(make_linear):
    sgd = keras.optimizers.SGD(LEARNING_RATE, gradient_accumulation_steps=2)
    method = RigL(6, Constant(SHARE), end_step=100, grad_accumulation=3)
    check(make_linear(sgd), method, accumulated=2, update_steps=[6, 12], num_gradients=3)


@pytest.mark.parametrize("wrap", [lambda sgd: sgd, keras.optimizers.LossScaleOptimizer])
def test_snfs_by_hand(wrap, make_linear):
    sgd = keras.optimizers.SGD(LEARNING_RATE, gradient_accumulation_steps=3)
    method = SNFS(6, Constant(SHARE), end_step=100, momentum=0.7)
    check(make_linear(wrap(sgd)), method, accumulated=3, update_steps=[6, 12], momentum=0.7)


@pytest.mark.parametrize("make_method", [RigL, SNFS])
def test_sums_survive_saving(make_method, make_linear, tmp_path):
    models, methods = [], []
    for _ in range(2):
        sgd = keras.optimizers.SGD(LEARNING_RATE, gradient_accumulation_steps=4)
        models.append(make_linear(sgd))
        methods.append(make_method(4, Constant(SHARE), end_step=100))
    fit(models[0], methods[0])
    # Two batches of the second step are missing.
    fit(models[1], methods[1], stop=6)
    models[1].save(tmp_path / "model.keras")
    models[1] = keras.saving.load_model(tmp_path / "model.keras")
    fit(models[1], methods[1], start=6)
    for expected, found in zip(*(model.get_kernels().values() for model in models), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras on PyTorch has no `steps_per_execution`"
)
def test_chunks_of_batches_move_connections_too(make_linear):
    sgd = keras.optimizers.SGD(LEARNING_RATE, gradient_accumulation_steps=2)
    method = RigL(4, Constant(SHARE), end_step=100)
    expected = by_hand(*first(make_linear(sgd)), accumulated=2, update_steps=[4, 8, 12])[1]
    sgd = keras.optimizers.SGD(LEARNING_RATE, gradient_accumulation_steps=2)
    model = make_linear(sgd, steps_per_execution=4)
    fit(model, method)
    np.testing.assert_array_equal(first(model)[1], expected)


def first(model):
    [path] = model.kernels
    return model.get_kernels()[path], model.get_masks()[path]


def test_a_mean_must_not_reach_back_over_an_update(make_linear):
    sgd = keras.optimizers.SGD(LEARNING_RATE, gradient_accumulation_steps=3)
    method = RigL(6, end_step=100, grad_accumulation=3)
    with pytest.raises(ValueError, match="between two updates, 2 with.*=3, frequency=6"):
        fit(make_linear(sgd), method)
