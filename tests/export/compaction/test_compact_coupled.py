"""Compaction leaves what `channel_groups` counts: its accounting is an independent derivation."""

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.experiments import models


@pytest.fixture
def compact_half(compact_and_compare):
    """Returns a function that prunes half of all groups, compacts, and checks the parameters."""

    def compact_half(model, x):
        rng = np.random.default_rng(0)
        for weight in model.weights:
            if len(weight.shape) < 2:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            else:
                weight.assign(rng.normal(size=weight.shape) / np.sqrt(np.prod(weight.shape[:-1])))
        accounting = tfl.channel_groups(model).accounting
        sparse = tfl.sparsify(model, pattern="channel", sparsity=0.5)
        kept = sparse.kept_channels()
        assert all(not mask.all() for mask in kept.values())
        smaller, report = compact_and_compare(tfl.strip(sparse), x)
        assert report.parameters_after == accounting.parameters(kept)
        return smaller, report

    return compact_half


def data(*shape):
    return np.random.default_rng(1).normal(size=(2, *shape)).astype("float32")


def normed(x):
    return layers.LayerNormalization()(x)


def test_feed_forward_width(compact_half):
    inputs = keras.Input((5, 8))
    y = layers.Dense(8)(layers.Dense(16, "gelu", name="wide")(normed(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(normed(inputs + y)))
    smaller, _ = compact_half(model, data(5, 8))
    assert smaller.get_layer("wide").units == 8


def test_feed_forward_width_of_equations(compact_half):
    inputs = keras.Input((5, 8))
    wide = layers.EinsumDense("abc,cd->abd", (None, 16), bias_axes="d", activation="relu")
    back = layers.EinsumDense("abc,cd->abd", (None, 8))
    model = keras.Model(inputs, layers.Dense(3)(normed(inputs + back(wide(normed(inputs))))))
    smaller, _ = compact_half(model, data(5, 8))
    assert smaller.get_layer(wide.name).kernel.shape == (8, 8)


@pytest.mark.parametrize("equation, units", [("abc,cd->abd", 2), ("abc,bcd->abd", 3)])
def test_constant_that_an_equation_reads(equation, units, compact_and_compare):
    inputs = keras.Input((2, 3))
    last = layers.EinsumDense(equation, (None if units == 2 else 2, 2))
    model = keras.Model(inputs, last(layers.Dense(3, name="hidden")(inputs)))
    model.get_layer("hidden").kernel.assign([[1, 0, 2], [3, 0, 4], [5, 0, 6]])
    model.get_layer("hidden").bias.assign([0, 7, 0])
    last.kernel.assign(np.random.default_rng(0).normal(size=last.kernel.shape))
    smaller, report = compact_and_compare(model, data(2, 3))
    # A kernel for every position would need a bias for every position.
    assert smaller.get_layer("hidden").units == units
    assert len(report.kept) == (units == 3)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="Keras' attention there needs keys as wide as values"
)
def test_heads_and_widths_of_attention(compact_half):
    inputs = keras.Input((5, 8))
    attention = layers.MultiHeadAttention(4, 6, value_dim=4)
    x = normed(inputs)
    model = keras.Model(inputs, layers.Dense(3)(normed(inputs + attention(x, x))))
    smaller, _ = compact_half(model, data(5, 8))
    attention = smaller.get_layer(attention.name)
    assert (attention.num_heads, attention.key_dim, attention.value_dim) == (2, 3, 2)


def test_attention_to_other_tensors_without_bias(compact_half):
    inputs = keras.Input((5, 8))
    memory = layers.Dense(6, name="memory")(inputs)
    attention = layers.MultiHeadAttention(2, 4, use_bias=False)
    x = attention(layers.Dense(4, name="query")(inputs), memory, use_causal_mask=True)
    model = keras.Model(inputs, layers.Dense(3)(x))
    smaller, _ = compact_half(model, data(5, 8))
    units = [smaller.get_layer(name).units for name in ("memory", "query")]
    assert units == [3, 2]


@pytest.mark.backend
def test_widths_of_keys_and_values_may_differ_except_on_jax(compact_and_compare, randomize):
    inputs = keras.Input((5, 4))
    attention = layers.MultiHeadAttention(2, 3, name="attention")
    model = keras.Model(inputs, attention(inputs, inputs))
    randomize(model, 0.0)
    output = next(weight for weight in model.weights if weight.shape == (2, 3, 4))
    output.assign(keras.ops.convert_to_numpy(output) * np.reshape([1, 0, 1], (3, 1)))
    smaller, _ = compact_and_compare(model, data(5, 4))
    attention = smaller.get_layer("attention")
    values = 3 if keras.backend.backend() == "jax" else 2
    assert (attention.key_dim, attention.value_dim) == (3, values)


def test_attention_that_selects_its_queries(compact_and_compare, randomize):
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 3, name="attention")(inputs, inputs))
    randomize(model, 0.0)
    for weight in model.weights:
        if len(weight.shape) == 3 and weight.shape[0] == 4:
            weight.assign(np.array(weight) * np.reshape([1, 0, 1, 1], (4, 1, 1)))
    _, report = compact_and_compare(model, data(5, 4), gather_inputs=True)
    assert report.gathered == {"attention": 3}


@pytest.mark.thorough("big networks; the other tests here have such layers in small ones")
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet-20"])
def test_big_networks(name, compact_half):
    if name == "ResNet-20":
        model = models.resnet_20((32, 32, 3), 10, seed=0)
    else:
        model = keras.applications.MobileNetV2(
            weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None
        )
    _, report = compact_half(model, data(32, 32, 3))
    assert report.left_alone == {}
