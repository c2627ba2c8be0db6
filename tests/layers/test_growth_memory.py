import keras
import numpy as np
import pytest
from keras import ops

import tf_lottery as tfl
from tf_lottery.growth import prepare_collecting
from tf_lottery.layers import GrowthMemory
from tf_lottery.optimizers import add_overwritten, remove_overwritten
from tf_lottery.training import Training

pytestmark = pytest.mark.backend


@pytest.fixture
def sparse():
    """One dense layer of six weights, half of them pruned."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    sparse = tfl.sparsify(model)
    sparse.compile(keras.optimizers.SGD(0.0), "mean_squared_error")
    path = next(iter(sparse.kernels))
    sparse.kernels[path].assign([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    sparse.set_masks({path: np.array([[True, False], [False, True], [True, False]])})
    return sparse


def remember(sparse, decay=None, gain=1.0):
    prepare_collecting(Training.of(sparse), decay, gain)
    return sparse.growth


def collect(sparse, **kwargs):
    growth = remember(sparse, **kwargs)
    add_overwritten(sparse.optimizer, growth.gradients, decay=growth.decay)
    growth.collect(True)
    sparse.train_function = None
    return growth


def data(num_batches=3):
    rng = np.random.default_rng(0)
    size = 4 * num_batches
    return rng.normal(size=(size, 3)).astype("float32"), rng.normal(size=(size, 2)).astype(
        "float32"
    )


def dense_gradients(sparse, x, y):
    """Returns the gradients of the mean squared error of `x @ kernel` over batches of 4."""
    [kernel] = sparse.get_kernels().values()
    batches = zip(np.split(x, len(x) // 4), np.split(y, len(y) // 4), strict=True)
    return [2 / b.size * a.T @ (a @ kernel - b) for a, b in batches]


def fit(sparse, x, y, **kwargs):
    sparse.fit(x, y, batch_size=4, shuffle=False, verbose=0, **kwargs)


def test_last_gradient_is_dense_and_exact(sparse):
    x, y = data()
    expected = dense_gradients(sparse, x, y)
    [gradient] = collect(sparse, decay=0.0).gradients
    fit(sparse, x, y)
    np.testing.assert_allclose(gradient, expected[-1], rtol=1e-5)
    assert np.all(np.array(gradient) != 0)


@pytest.mark.parametrize(("decay", "gain"), [(0.9, 0.1), (0.5, 0.5), (1.0, 1.0)])
def test_recurrence_of_gradients(decay, gain, sparse):
    x, y = data()
    expected = np.zeros((3, 2))
    for gradient in dense_gradients(sparse, x, y):
        expected = decay * expected + gain * gradient
    growth = collect(sparse, decay=decay, gain=gain)
    fit(sparse, x, y)
    np.testing.assert_allclose(growth.gradients[0], expected, rtol=1e-5)
    growth.clear()
    assert not np.any(growth.gradients[0])


def test_l2_penalty_stays_out_of_the_gradient():
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(2, use_bias=False, kernel_regularizer=keras.regularizers.L2(0.1)),
        ]
    )
    sparse = tfl.sparsify(model, 0.5)
    sparse.compile(keras.optimizers.SGD(0.0), "mean_squared_error")
    x, y = data(1)
    [expected] = dense_gradients(sparse, x, y)
    [gradient] = collect(sparse, decay=0.0).gradients
    fit(sparse, x, y)
    penalty = 0.2 * next(iter(sparse.get_kernels().values()))
    pruned = penalty == 0
    np.testing.assert_allclose(np.array(gradient)[pruned], expected[pruned], rtol=1e-5)


def test_training_is_the_same_with_and_without_collecting(sparse):
    x, y = data()
    sparse.optimizer.learning_rate = 0.1
    start = tfl.Snapshot(sparse)
    fit(sparse, x, y)
    [expected] = sparse.get_kernels().values()
    start.restore(sparse)
    growth = collect(sparse, decay=0.0)
    fit(sparse, x, y)
    remove_overwritten(sparse.optimizer, growth.gradients)
    growth.collect(False)
    sparse.train_function = None
    [found] = sparse.get_kernels().values()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    last = np.array(growth.gradients[0])
    fit(sparse, x, y)
    np.testing.assert_array_equal(growth.gradients[0], last)


def test_explored_weights_stay_explored():
    state = GrowthMemory()
    state.create_variables([keras.Variable(np.zeros((2, 2)))])
    state.explore([np.array([[True, False], [False, False]])])
    state.explore([np.array([[False, False], [False, True]])])
    np.testing.assert_array_equal(state.explored[0], [[True, False], [False, True]])


def test_remembering_keeps_what_fits_and_what_was_explored(sparse):
    first = remember(sparse, decay=0.9, gain=0.1)
    first.gradients[0].assign(np.ones((3, 2), "float32"))
    assert remember(sparse, decay=0.9, gain=0.1) is first
    first.explore([np.array([[False, True], [False, False], [False, False]])])
    second = remember(sparse)
    assert second is not first
    assert second.gradients == []
    expected = [[True, True], [False, True], [True, False]]
    np.testing.assert_array_equal(second.explored[0], expected)
    assert {id(v) for v in sparse.weights} == {
        id(v) for v in [*sparse.model.weights, *sparse.selection.masks, *second.explored]
    }


@pytest.mark.parametrize(("decay", "num_saved"), [(None, 1), (0.0, 1), (0.9, 2)])
def test_only_what_lasts_is_saved(decay, num_saved, sparse, tmp_path):
    growth = remember(sparse, decay, 0.1)
    for gradient in growth.gradients:
        gradient.assign(np.full((3, 2), 7.0, "float32"))
    assert len(growth.state()) == num_saved
    sparse.save(tmp_path / "sparse.keras")
    loaded = keras.saving.load_model(tmp_path / "sparse.keras").growth
    assert (loaded.decay, loaded.gain) == (decay or None, growth.gain)
    np.testing.assert_array_equal(loaded.explored[0], growth.explored[0])
    assert len(loaded.gradients) == num_saved - 1
    for gradient in loaded.gradients:
        assert not gradient.trainable
        assert np.all(np.array(gradient) == 7.0)


def test_gradient_through_a_loop_sums_over_its_steps():
    """A recurrent kernel is used at every step of a sequence."""
    layer = keras.layers.SimpleRNN(2, activation=None, use_bias=False)
    model = tfl.sparsify(keras.Sequential([keras.Input((3, 2)), layer]), 0.5)
    model.compile(keras.optimizers.SGD(0.0), "mean_squared_error")
    x = np.random.default_rng(0).normal(size=(1, 3, 2)).astype("float32")
    y = np.zeros((1, 2), "float32")
    gradient = collect(model, decay=0.0).gradients[0]
    model.fit(x, y, verbose=0)
    w, u = model.get_kernels().values()
    powers = [np.linalg.matrix_power(u, 2 - t) for t in range(3)]
    output = sum(x[0, t] @ w @ powers[t] for t in range(3))
    expected = sum(np.outer(x[0, t], output @ powers[t].T) for t in range(3))
    assert ops.shape(gradient) == (2, 2)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="about inputs of JAX functions")
def test_compiled_gradients_keep_the_old_gradient_as_an_input():
    """Otherwise a training step copies the slots of the optimizer."""
    import jax

    memory = GrowthMemory(decay=0.0)
    memory.create_variables([keras.Variable(np.ones((3, 2), "float32"))])
    [old] = memory.gradients

    def gradients(kernel, value):
        def loss(kernel, value):
            with keras.StatelessScope([(old, value)]):
                memory.collect(True)
                [watched] = memory.replace([kernel], True)
            return ops.sum(watched**2)

        return jax.grad(loss, argnums=(0, 1))(kernel, value)

    kernel = np.ones((3, 2), "float32")
    text = jax.jit(gradients).lower(kernel, kernel).as_text()
    assert "%arg1" in text
