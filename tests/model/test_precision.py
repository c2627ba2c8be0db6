"""Sparse models in precisions other than float32."""

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl

LossScaleOptimizer = keras.optimizers.LossScaleOptimizer


@pytest.fixture
def float64(monkeypatch):
    """Sets the global float type to float64 for one test."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    if keras.backend.backend() == "jax":
        jax.config.update("jax_enable_x64", False)


def make(seed=1):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "relu"), layers.Dense(3, kernel_regularizer="l2")]
    )


def compiled(model, optimizer=None, **kwargs):
    eagerly = keras.backend.backend() == "tensorflow"
    model.compile(optimizer or keras.optimizers.Adam(0.1), "mse", run_eagerly=eagerly, **kwargs)
    return model


def data(size=16):
    rng = np.random.default_rng(0)
    return rng.normal(size=(size, 6)), rng.normal(size=(size, 3))


def array(value):
    return keras.ops.convert_to_numpy(value)


@pytest.mark.backend
def test_double_precision_is_that_of_the_plain_model_to_the_last_bit(float64):
    plain, sparse = compiled(make()), compiled(tfl.sparsify(make()))
    x, y = data()
    assert not np.array_equal(plain(x), array(plain(x.astype("float32").astype("float64"))))
    for model in (plain, sparse):
        model.fit(x, y, epochs=3, shuffle=False, verbose=0)
    np.testing.assert_array_equal(array(sparse(x)), array(plain(x)), strict=True)
    predicted = sparse.predict(x, verbose=0)
    np.testing.assert_array_equal(predicted, plain.predict(x, verbose=0), strict=True)
    assert predicted.dtype == "float64"


def test_gates_of_double_precision(float64):
    plain = make()
    gate = tfl.SoftGate(0.1, penalty=1e-3)
    sparse = compiled(tfl.sparsify(plain, gate=gate), keras.optimizers.SGD(0.1))
    x, y = data()
    # The scale cancels the sigmoid with far more than seven digits.
    np.testing.assert_allclose(array(sparse(x)), array(plain(x)), rtol=1e-13)
    assert {values.dtype.name for values in sparse.selection.values} == {"float64"}
    expected = 1e-3 * (6 * 8 + 8 * 3)
    assert sparse.selection.loss_of_gates == pytest.approx(expected, rel=1e-13)
    sparse(x, training=True)
    (penalty,) = [array(loss) for loss in sparse.losses[:1]]
    assert penalty.dtype == "float64"
    assert float(penalty) == pytest.approx(expected, rel=1e-13)
    sparse.train_on_batch(x, y)
    moved = sparse.selection.values[0] - 0.1
    assert np.any(moved.astype("float32").astype("float64") != moved)


def test_dense_gradients_of_double_precision(float64):
    sparse = compiled(tfl.sparsify(make(), sparsity=0.5), keras.optimizers.SGD(1.0))
    memory = tfl.layers.GrowthMemory(decay=0.0)
    sparse.add_part(memory)
    memory.collect(True)
    compiled(sparse, keras.optimizers.SGD(1.0))
    kernels, masks = list(sparse.get_kernels().values()), sparse.get_masks()
    sparse.train_on_batch(*data())
    mask = next(iter(masks.values()))
    step = (kernels[0] - next(iter(sparse.get_kernels().values())))[mask]
    gradient = array(memory.gradients[0])
    assert gradient.dtype == "float64"
    np.testing.assert_allclose(gradient[mask], step, rtol=1e-9, atol=1e-15)
    # On PyTorch, Keras also computes the gradients of plain models in float32.
    if keras.backend.backend() != "torch":
        assert np.any(gradient.astype("float32") != gradient)


def test_some_layers_of_double_precision():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4, dtype="float64"), layers.Dense(3, dtype="float32")]
    )
    sparse = tfl.sparsify(model, gate=tfl.SoftGate())
    assert [gate.dtype for gate in sparse.selection.gates] == [
        model.layers[0].kernel.dtype,
        "float32",
    ]


@pytest.mark.parametrize("precision", ["mixed_float16"], indirect=True)
@pytest.mark.parametrize("gate", [None, tfl.SoftGate()])
def test_loss_scale_is_that_of_the_dense_model(gate, precision, tmp_path):
    sparse = tfl.sparsify(make(), gate=gate)
    for optimizer in ("adam", keras.optimizers.SGD(0.1)):
        for auto in (True, False):
            dense = compiled(make(), optimizer, auto_scale_loss=auto)
            compiled(sparse, optimizer, auto_scale_loss=auto)
            assert type(sparse.optimizer) is type(dense.optimizer)
            assert isinstance(sparse.optimizer, LossScaleOptimizer) == auto


@pytest.mark.backend
@pytest.mark.parametrize("precision", ["mixed_float16"], indirect=True)
def test_own_loss_scale_is_kept(precision, tmp_path):
    own = LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=8.0)
    sparse = compiled(tfl.sparsify(make(), sparsity=0.5), own)
    assert sparse.optimizer is own
    x, y = data()
    sparse.fit(x, y, verbose=0)
    sparse.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, LossScaleOptimizer)
    assert not isinstance(loaded.optimizer.inner_optimizer, LossScaleOptimizer)
    assert float(array(loaded.optimizer.dynamic_scale)) == 8.0
    for model in (sparse, loaded):
        model.fit(x, y, shuffle=False, verbose=0)
    np.testing.assert_array_equal(loaded.predict(x), sparse.predict(x))


@pytest.mark.parametrize("precision", ["mixed_float16"], indirect=True)
def test_no_loss_scale_is_kept_when_loaded(precision, tmp_path):
    sparse = compiled(tfl.sparsify(make(), sparsity=0.5), "sgd", auto_scale_loss=False)
    sparse.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not isinstance(loaded.optimizer, LossScaleOptimizer)


@pytest.mark.parametrize("precision", ["mixed_float16"], indirect=True)
def test_tweaks_leave_the_loss_scale(precision):
    sparse = compiled(tfl.sparsify(make(), sparsity=0.5), "sgd")
    x, y = data()
    recipe = tfl.retrain.recipe(sparse, steps=4, batches=[(x, y)], tweaks=["soft_activations"])
    compiled(sparse, "sgd")
    assert isinstance(sparse.optimizer, LossScaleOptimizer)
    sparse.fit(x, y, verbose=0, callbacks=recipe.callbacks)
    assert isinstance(sparse.optimizer, LossScaleOptimizer)


@pytest.mark.parametrize("precision", ["mixed_float16"], indirect=True)
def test_mixed_precision_compiles_without_an_optimizer(precision):
    sparse = tfl.sparsify(make())
    sparse.compile(optimizer=None, loss="mse")
    assert sparse.optimizer is None
