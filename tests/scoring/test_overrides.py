import keras
import numpy as np
import pytest
from keras import layers, ops

from tf_lottery._keras import all_layers
from tf_lottery.scoring.overrides import computing_in, remembered_activations, without_noise


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_layers_compute_in_float32_and_get_their_policies_back(policy):
    shared = layers.Dense(3, dtype=policy)
    model = keras.Sequential(
        [keras.Input((3,)), shared, layers.Activation("relu", dtype=policy), shared]
    )
    with pytest.raises(KeyError), computing_in(model, "float32"):
        assert ops.convert_to_numpy(model(np.ones((1, 3)))).dtype == "float32"
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
        raise KeyError
    assert [layer.dtype_policy.name for layer in model.layers] == [policy] * 3


def test_float64_reaches_beyond_float32():
    if keras.backend.backend() == "jax":
        pytest.skip("Keras has no float64 on JAX")
    model = keras.Sequential(
        [keras.Input((1,))]
        + [layers.Dense(1, kernel_initializer=keras.initializers.Constant(1e30)) for _ in range(3)]
    )
    with computing_in(model, "float64"):
        assert float(model(np.ones((1, 1)))[0, 0]) == pytest.approx(1e90)
    assert not np.isfinite(float(model(np.ones((1, 1)))[0, 0]))


def test_logits_of_outputs():
    inputs = keras.Input((2,))
    dense = layers.Dense(2, "softmax")
    hidden = layers.Dense(2, "sigmoid")(inputs)
    model = keras.Model(inputs, [dense(hidden), layers.Activation("tanh")(hidden), hidden + 1])
    activations = [layer.activation for layer in model.layers if hasattr(layer, "activation")]
    x = np.array([[0.5, -1.0]], "float32")
    with remembered_activations(model) as logits_of:
        probabilities, squashed, shifted = model(x)
        np.testing.assert_allclose(ops.softmax(logits_of(probabilities)), probabilities, rtol=1e-6)
        np.testing.assert_allclose(np.tanh(logits_of(squashed)), squashed, rtol=1e-6)
        assert logits_of(shifted) is shifted
    after = [layer.activation for layer in model.layers if hasattr(layer, "activation")]
    assert after == activations


class Drawing(layers.Layer):
    """Multiplies inputs by a random number in training."""

    def __init__(self):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, inputs, training=None):
        return inputs * keras.random.uniform((), seed=self.seed_generator) if training else inputs


def test_layers_that_draw_do_not_while_others_train():
    inputs = keras.Input((2,))
    noisy = layers.GaussianNoise(1.0)(layers.Dropout(0.5)(Drawing()(inputs)))
    steps = layers.SimpleRNN(2, dropout=0.5, recurrent_dropout=0.5)(layers.RepeatVector(2)(inputs))
    norm = layers.BatchNormalization()
    model = keras.Model(inputs, [noisy, steps, norm(inputs)])
    x = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    quiet = model(x)
    with pytest.raises(KeyError), without_noise(model):
        outputs = model(x, training=True)
        raise KeyError
    np.testing.assert_array_equal(outputs[0], quiet[0])
    np.testing.assert_array_equal(outputs[1], quiet[1])
    np.testing.assert_allclose(outputs[2], [[-1, -1], [1, 1]], atol=1e-2)
    assert not any("call" in vars(layer) for layer in all_layers(model))
    drawn = model(x, training=True)
    assert np.any(drawn[0] != quiet[0]) and np.any(drawn[1] != quiet[1])


def test_a_method_of_the_layer_alone_is_put_back():
    layer = layers.Dropout(0.5)
    model = keras.Sequential([keras.Input((2,)), layer])

    def call(inputs, training=False):
        return inputs + 1.0 if training else inputs

    layer.call = call
    with without_noise(model):
        np.testing.assert_array_equal(layer(np.ones((1, 2)), training=True), [[1, 1]])
    assert layer.call is call
