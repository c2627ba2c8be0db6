"""Layers that assign their kernels in a call."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tf_lottery as tfl

pytestmark = pytest.mark.backend
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


class Clipped(layers.Layer):
    """Assigns its clipped kernel in every training step, and multiplies with it."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 4), name="kernel")

    def call(self, inputs, training=None):
        if training:
            self.kernel.assign(ops.clip(self.kernel, -0.3, 0.3))
        return ops.matmul(inputs, self.kernel)


def normalized():
    return layers.SpectralNormalization(layers.Dense(5, "relu"), power_iterations=3)


LAYERS = {
    "spectral": normalized,
    "nested": lambda: keras.Sequential([normalized(), layers.Dense(4), Clipped()]),
    "custom": Clipped,
}


def make(kind):
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((6,)), LAYERS[kind](), layers.Dense(3)])


def train(model, data, run_eagerly, steps=4):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5, momentum=0.9), loss, run_eagerly=run_eagerly)
    return [float(model.train_on_batch(*data)) for _ in range(steps)]


@pytest.mark.parametrize(
    ("kind", "run_eagerly"),
    [("spectral", ON_TENSORFLOW), ("nested", False), ("custom", ON_TENSORFLOW)],
)
def test_training_without_zeros_is_that_of_the_plain_model(kind, run_eagerly, make_data):
    plain, wrapped = make(kind), make(kind)
    sparse = tfl.sparsify(wrapped)
    found = [train(model, make_data(), run_eagerly) for model in (plain, sparse)]
    np.testing.assert_allclose(*found, rtol=1e-5)
    for variable, expected in zip(wrapped.variables, plain.variables, strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="Keras drops the assigned kernel elsewhere")
@pytest.mark.parametrize("run_eagerly", [True, False])
def test_spectral_norm_of_the_sparse_kernel_is_one(run_eagerly, make_data):
    model = make("spectral")
    sparse = tfl.sparsify(model, sparsity=0.5)
    path = next(iter(sparse.kernels))
    masks = sparse.get_masks()
    sparse.kernels[path].assign(10 * sparse.get_kernels()[path])
    train(sparse, make_data(), run_eagerly, steps=12)
    sparse(make_data()[0], training=True)
    kernel = sparse.get_kernels()[path]
    np.testing.assert_array_equal(kernel != 0, masks[path])
    assert np.linalg.norm(kernel, 2) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("kind", LAYERS)
def test_soft_gates_are_refused(kind, make_data):
    sparse = tfl.sparsify(make(kind), gate=tfl.SoftGate())
    with pytest.raises(ValueError, match="kernel '.*/kernel' is assigned.*Leave it out"):
        train(sparse, make_data(), run_eagerly=ON_TENSORFLOW)


def test_soft_gates_beside_such_a_layer(make_data):
    sparse = tfl.sparsify(make("custom"), gate=tfl.SoftGate(), exclude="clipped")
    train(sparse, make_data(), run_eagerly=ON_TENSORFLOW, steps=1)
    assert len(sparse.kernels) == 1
