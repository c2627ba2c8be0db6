import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
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


def test_layer_inside_time_distributed():
    masked = Masked(layers.Dense(2, dtype="mixed_float16"))
    outputs = layers.TimeDistributed(masked)(np.ones((1, 3, 4), "float32"))
    kernel = keras.ops.convert_to_numpy(masked.layer.kernel)
    np.testing.assert_allclose(outputs[0], 3 * [kernel.sum(0)], rtol=1e-2)
    assert masked(keras.Input((4,))).dtype == "float16"


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


@pytest.mark.parametrize(
    "masks", [[], [np.ones((4, 2), bool)], [np.ones((4, 3))], [np.ones((4, 3), bool)] * 2]
)
def test_masks_that_do_not_fit_are_refused(masks):
    masked = Masked(layers.Dense(3))
    masked.build((None, 4))
    with pytest.raises(ValueError, match="Argument `masks.* must .*Received"):
        masked.set_masks(masks)
    assert masked.get_masks()[0].all()


def copy_of(masked):
    """Returns what `keras.models.clone_model` makes of a layer: it is not built."""
    return Masked.from_config(masked.get_config())


def test_a_copy_that_is_made_before_building_follows_the_same_rules():
    for rule in ("embeddings", ["embeddings", "."], ("embeddings",)):
        copy = copy_of(copy_of(Masked(layers.Embedding(5, 4), include=rule)))
        copy.build((None, 3))
        assert [kernel.name for kernel in copy.kernels] == ["embeddings"]
    copy = copy_of(Masked(layers.LSTM(4), exclude="recurrent"))
    copy.build((None, 3, 2))
    assert [kernel.name for kernel in copy.kernels] == ["kernel"]


def test_a_copy_before_building_refuses_rules_that_no_file_can_hold():
    masked = Masked(layers.Embedding(5, 4), include=layers.Embedding)
    with pytest.raises(ValueError, match="`include` must be .*build it before. Received"):
        masked.get_config()
    masked.build((None, 3))
    copy = copy_of(masked)
    copy.build((None, 3))
    assert len(copy.kernels) == 1


def test_a_copy_of_a_copy_has_the_same_kernels(make_model):
    masked = Masked(layers.LSTM(4), exclude="recurrent")
    masked.build((None, 3, 2))
    copy = copy_of(copy_of(masked))
    copy.build((None, 3, 2))
    assert [kernel.name for kernel in copy.kernels] == ["kernel"]
    wrapper = tfl.sparsify(make_model("residual"), pattern="channel").wrapper
    copy = copy_of(copy_of(wrapper))
    copy.build()
    assert len(copy.companions) == len(wrapper.companions) > 0


@pytest.mark.filterwarnings("error:.*does not support masking")
def test_masks_of_time_steps_pass_through():
    x = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    recurrent = layers.LSTM(3, return_sequences=True)
    ends = layers.Embedding(5, 2, mask_zero=True), layers.LSTM(2)
    wrapped, plain = (
        keras.Sequential([keras.Input((4,), dtype="int32"), ends[0], middle, ends[1]])
        for middle in (Masked(recurrent), recurrent)
    )
    np.testing.assert_allclose(
        wrapped.predict(x, verbose=0), plain.predict(x, verbose=0), atol=1e-6
    )
    last = keras.Sequential([keras.Input((4,), dtype="int32"), ends[0], Masked(layers.LSTM(2))])
    assert last.layers[-1].compute_mask(None, np.ones((2, 4), bool)) is None
