import keras
import numpy as np
import pytest
from keras import layers

from tf_lottery.layers import Masked
from tf_lottery.sparsity import NM, Unstructured

pytestmark = pytest.mark.backend


def test_computes_with_the_masked_kernel():
    masked = Masked(layers.Dense(1, use_bias=False, kernel_initializer="ones"))
    masked.build((None, 2))
    masked.selection.masks[0].assign([[True], [False]])
    np.testing.assert_array_equal(masked(np.array([[3.0, 5.0]])), [[3.0]])
    np.testing.assert_array_equal(masked.kernels[0], np.ones((2, 1)))


def test_apply_masks_writes_zeros():
    masked = Masked(layers.Dense(1, use_bias=False, kernel_initializer="ones"))
    masked.build((None, 2))
    masked.selection.masks[0].assign([[True], [False]])
    masked.apply_masks()
    np.testing.assert_array_equal(masked.layer.kernel, [[1.0], [0.0]])


def test_layer_in_a_functional_model_is_built_and_trains(make_data):
    inputs = keras.Input((6,))
    masked = Masked(layers.Dense(4, activation="relu"))
    model = keras.Model(inputs, layers.Dense(3)(masked(inputs)))
    masked.selection.masks[0].assign(np.eye(6, 4, dtype=bool))
    before = np.array(keras.ops.convert_to_numpy(masked.layer.kernel))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*make_data(), epochs=2, verbose=0)
    after = keras.ops.convert_to_numpy(masked.layer.kernel)
    eye = np.eye(6, 4, dtype=bool)
    np.testing.assert_array_equal(after[~eye], before[~eye])
    assert np.all(after[eye] != before[eye])


def test_several_call_arguments():
    attention = layers.MultiHeadAttention(1, 2)
    x = np.ones((1, 3, 4), "float32")
    expected = attention(x, x)
    masked = Masked(attention)
    masked.build()
    np.testing.assert_allclose(masked(x, x), expected, rtol=1e-6)
    assert len(masked.selection.masks) == 4


def test_functional_model_with_a_wrapper_survives_saving(tmp_path):
    inputs = keras.Input((6,))
    masked = Masked(layers.Dense(4), include="kernel")
    model = keras.Model(inputs, masked(inputs))
    masked.selection.masks[0].assign(np.eye(6, 4, dtype=bool))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_something_else_than_a_layer_is_refused():
    with pytest.raises(ValueError, match="`layer` must be a `keras.Layer`.*Received: 'dense'"):
        Masked("dense")


def test_pattern_survives_serialization():
    masked = Masked(layers.Dense(2), pattern="2:4")
    masked.build((None, 4))
    config = keras.saving.serialize_keras_object(masked)
    assert keras.saving.deserialize_keras_object(config).pattern == NM(2, 4)
    del config["config"]["pattern"]
    assert keras.saving.deserialize_keras_object(config).pattern == Unstructured()


def test_kernels_that_the_pattern_does_not_divide_get_no_mask():
    masked = Masked(layers.Dense(2), pattern="2:4")
    masked.build((None, 6))
    assert masked.selection.masks == []
    assert list(masked.skipped.values()) == [
        "its 6 inputs and 2 outputs are not divided by the pattern 2:4"
    ]
