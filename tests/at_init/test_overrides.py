import keras
import numpy as np
import pytest
from keras import layers, ops

from tf_lottery.at_init.overrides import computing_in, remembered_activations


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
