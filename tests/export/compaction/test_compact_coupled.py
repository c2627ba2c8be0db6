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


@pytest.mark.parametrize("options", [{}, {"use_gate": True}], ids=["plain", "gate"])
def test_heads_of_grouped_attention(options, compact_half):
    inputs = keras.Input((5, 8))
    attention = layers.GroupQueryAttention(4, 8, 4, **options)
    x = normed(inputs)
    model = keras.Model(inputs, layers.Dense(3)(normed(inputs + attention(x, x))))
    smaller, _ = compact_half(model, data(5, 8))
    attention = smaller.get_layer(attention.name)
    widths = attention.num_query_heads, attention.num_key_value_heads, attention.head_dim
    assert widths == (4, 2, 2)


@pytest.mark.parametrize("merge", ["concat", "ave"])
def test_units_of_both_directions_and_of_every_time_step(merge, compact_half):
    inputs = keras.Input((5, 3))
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge, name="both")(inputs)
    x = layers.TimeDistributed(layers.Dense(6, "relu"), name="steps")(x)
    convolutions = keras.Sequential(
        [keras.Input((3, 2)), layers.Conv1D(4, 2, name="conv"), layers.Flatten()], name="inside"
    )
    x = layers.TimeDistributed(convolutions, name="images")(layers.Reshape((5, 3, 2))(x))
    x = layers.Bidirectional(layers.GRU(4), backward_layer=layers.GRU(4, go_backwards=True))(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    smaller, report = compact_half(model, data(5, 3))
    assert report.left_alone == {}
    both, images = smaller.get_layer("both"), smaller.get_layer("images")
    assert [both.forward_layer.units, both.backward_layer.units] == [2, 2]
    assert both.merge_mode == merge
    assert images.layer.get_layer("conv").filters == 2
    clone = keras.models.clone_model(smaller)
    assert clone.count_params() == smaller.count_params()


def test_grouped_convolutions(compact_half):
    inputs = keras.Input((6, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(8, 1, name="first")(inputs)))
    x = layers.Conv1D(12, 3, groups=2, padding="same", name="grouped")(x)
    x = layers.Conv1D(12, 3, groups=12, padding="same", name="deep")(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))
    smaller, _ = compact_half(model, data(6, 3))
    shapes = [smaller.get_layer(name).kernel.shape for name in ("grouped", "deep")]
    assert shapes == [(3, 2, 6), (3, 1, 6)]
    assert smaller.get_layer("deep").groups == 6


def test_towers_that_share_their_layers(compact_half):
    tower = keras.Sequential(
        [
            keras.Input((6, 2)),
            layers.Conv1D(4, 3, padding="same"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(8),
        ],
        name="tower",
    )
    first, second = keras.Input((6, 2)), keras.Input((6, 2))
    x = keras.ops.abs(tower(first) - tower(second))
    model = keras.Model([first, second], layers.Dense(1)(x))
    smaller, report = compact_half(model, [data(6, 2), -data(6, 2)])
    assert report.left_alone == {}
    assert smaller.get_layer("tower").output_shape == (None, 4)


class Encoder(layers.Layer):
    """A transformer block as in keras-hub, with all layers inside."""

    def build(self, shape):
        self.norm = layers.LayerNormalization(name="norm")
        self.attention = layers.MultiHeadAttention(2, 2, name="attention")
        self.attention.build(query_shape=shape, value_shape=shape)
        self.up = layers.Dense(6, lambda x: keras.ops.gelu(x, approximate=True), name="up")
        self.down = layers.Dense(shape[-1], name="down")
        self.dropout = layers.Dropout(0.5, name="dropout")

    def call(self, inputs, training=None):
        x = self.norm(inputs)
        x = self.attention(query=x, value=x, training=training)
        x = inputs + self.dropout(x, training=training)
        return x + self.dropout(self.down(self.up(x)), training=training)


def test_layers_with_layers_inside_are_replaced_by_them(compact_half):
    inputs = keras.Input((5, 4))
    x = Encoder(name="block_1")(Encoder(name="block_0")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))
    smaller, report = compact_half(model, data(5, 4))
    assert smaller.get_layer("block_0_attention").num_heads == 1
    assert smaller.get_layer("block_1_up").units == 3
    assert {row.path for row in report.rows} > {"block_0/attention", "block_1/up"}
    # Dropout still works in training.
    outputs = [smaller(data(5, 4), training=training) for training in (True, False)]
    assert not np.allclose(*map(keras.ops.convert_to_numpy, outputs))


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


@pytest.mark.parametrize("kind", ["vit", "bert"])
def test_networks_of_keras_hub(kind, compact_half):
    hub = pytest.importorskip("keras_hub")
    if kind == "vit":
        body = hub.models.ViTBackbone((16, 16, 3), 8, 1, num_heads=2, hidden_dim=8, mlp_dim=12)
        model = hub.models.ViTImageClassifier(body, num_classes=3, preprocessor=None)
        x = data(16, 16, 3)
    else:
        sizes = {"num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12, "max_sequence_length": 6}
        body = hub.models.BertBackbone(20, 1, **sizes)
        model = hub.models.BertTextClassifier(body, num_classes=3, preprocessor=None)
        x = {name: np.arange(12).reshape(2, 6) % 2 for name in model.input}
    _, report = compact_half(model, x)
    changed = [row.path for row in report.rows if row.parameters_after < row.parameters_before]
    assert sum("attention" in path or "mha" in path for path in changed) == 1
    assert sum("intermediate" in path or "dense_1" in path for path in changed) == 1


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
