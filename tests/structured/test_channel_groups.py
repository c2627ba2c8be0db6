"""Groups of small networks, written by hand."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tf_lottery as tfl


def sizes(groups):
    """Returns a dict of the kernels of each group, joined by spaces, to its width."""
    return {
        " ".join(dict.fromkeys(member.key for member in group.kernels)): group.width
        for group in groups
    }


def image(channels=3):
    return keras.Input((6, 6, channels))


def conv(filters, name, **kwargs):
    return layers.Conv2D(filters, 3, padding="same", name=name, **kwargs)


def head(x, units=2):
    return layers.Dense(units, name="head")(layers.GlobalAveragePooling2D()(x))


def test_addition_ties_its_branches():
    x = inputs = image()
    x = left = conv(4, "left")(x)
    x = conv(5, "inside")(x)
    x = layers.Add()([left, conv(4, "right")(x)])
    groups = tfl.channel_groups(keras.Model(inputs, head(x)))
    assert sizes(groups) == {"left/kernel right/kernel": 4, "inside/kernel": 5}
    group = groups["left"]
    assert {m.key for m in group.companions} == {"left/bias", "right/bias"}
    assert [(m.key, m.axis) for m in group.readers] == [("inside/kernel", 2), ("head/kernel", 0)]
    assert groups.fixed == {"an output of the model": {"head": 2}}
    assert groups.notes == {}


def test_what_one_channel_frees():
    inputs = image()
    x = layers.BatchNormalization(name="norm")(conv(4, "first")(inputs))
    groups = tfl.channel_groups(keras.Model(inputs, head(conv(5, "second")(x))))
    # A filter with its bias, four entries of the norm, and the weights that read the channel.
    first = (27 + 1 + 4 + 45, 36 * (27 + 45))
    assert groups.freed() == {"first": first, "second": (36 + 1 + 2, 36 * 36 + 2)}
    assert groups.accounting.parameters({}) == 27 * 4 + 4 + 16 + 36 * 5 + 5 + 10 + 2


def test_companions_of_norms():
    inputs = image()
    x = layers.BatchNormalization(name="scaled", center=False)(conv(4, "conv")(inputs))
    x = layers.BatchNormalization(name="shifted", scale=False)(x)
    [group] = tfl.channel_groups(keras.Model(inputs, head(x)))
    companions = {m.key for m in group.companions}
    assert companions == {"conv/bias", "scaled/gamma", "shifted/beta", "shifted/moving_mean"}
    readers = {m.key for m in group.readers}
    assert {"scaled/moving_mean", "scaled/moving_variance"} < readers
    assert "shifted/moving_variance" in readers


def test_product_ties_its_factors_and_sigmoid_does_not_matter_there():
    inputs = image()
    x = conv(4, "conv")(inputs)
    y = layers.Dense(2, "relu", name="squeeze")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    y = layers.Dense(4, "sigmoid", name="excite")(y)
    groups = tfl.channel_groups(keras.Model(inputs, head(layers.Multiply()([x, y]))))
    assert sizes(groups) == {"conv/kernel excite/kernel": 4, "squeeze/kernel": 2}
    assert groups.notes == {}


def test_layers_that_read_constants_are_listed():
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, "sigmoid", name="hidden"), layers.Dense(2, name="out")]
    )
    groups = tfl.channel_groups(model)
    assert groups.notes == {"hidden": ["out reads constants other than 0 in their place"]}


def test_concatenation_has_offsets():
    inputs = image()
    left, right = conv(2, "left")(inputs), conv(3, "right")(inputs)
    x = layers.Concatenate()([left, right])
    x = layers.Add()([conv(5, "both")(inputs), x])
    groups = tfl.channel_groups(keras.Model(inputs, head(x)))
    assert sizes(groups) == {"left/kernel both/kernel": 2, "right/kernel both/kernel": 3}
    [member] = [m for m in groups["right"].kernels if m.key == "both/kernel"]
    np.testing.assert_array_equal(member.positions, [[2], [3], [4]])
    [reader] = groups["right"].readers
    np.testing.assert_array_equal(reader.positions, [[2], [3], [4]])


@pytest.mark.parametrize(
    "index", [lambda x: x[:, 1:], lambda x: x[..., 1:], lambda x: x[:, 1:, ...]]
)
def test_index_that_picks_channels(index):
    inputs = keras.Input((4,))
    x = index(layers.Dense(3, name="hidden")(inputs))
    groups = tfl.channel_groups(keras.Model(inputs, layers.Dense(5, name="head")(x)))
    assert {group.name: len(group.readers) for group in groups} == {"hidden": 0, "hidden#2": 1}
    [reader] = groups["hidden#2"].readers
    np.testing.assert_array_equal(groups["hidden#2"].kernels[0].positions, [[1], [2]])
    np.testing.assert_array_equal(reader.positions, [[0], [1]])


@pytest.mark.parametrize("index", [lambda x: x[:, :, 0], lambda x: x[:, :, 0, ...]])
def test_index_of_a_single_channel(index):
    inputs = keras.Input((6, 4))
    x = index(layers.Dense(3, name="hidden")(inputs))
    groups = tfl.channel_groups(keras.Model(inputs, layers.Dense(5, name="head")(x)))
    assert list(groups) == []
    assert {"hidden": 3} in groups.fixed.values()


def test_flatten_has_one_position_for_each_pixel():
    inputs = keras.Input((2, 2, 3))
    x = layers.Flatten()(layers.Conv2D(2, 1, name="conv")(inputs))
    [group] = tfl.channel_groups(keras.Model(inputs, layers.Dense(5, name="head")(x)))
    [reader] = group.readers
    np.testing.assert_array_equal(reader.positions, [[0, 2, 4, 6], [1, 3, 5, 7]])


def test_depthwise_convolution_passes_channels_on():
    inputs = image()
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="deep")(conv(3, "conv")(inputs))
    [group] = tfl.channel_groups(keras.Model(inputs, head(x)))
    assert [m.key for m in group.kernels] == ["conv/kernel"]
    positions = {m.key: m.positions.tolist() for m in group.members}
    assert positions["deep/kernel"] == [[0], [1], [2]]
    assert positions["deep/bias"] == positions["head/kernel"] == [[0, 1], [2, 3], [4, 5]]


def test_grouped_convolution_keeps_its_groups_equal():
    inputs = image()
    x = conv(6, "grouped", groups=2)(conv(8, "conv")(inputs))
    groups = tfl.channel_groups(keras.Model(inputs, head(x)))
    assert sizes(groups) == {"conv/kernel": 4, "grouped/kernel": 3}
    np.testing.assert_array_equal(
        groups["conv"].kernels[0].positions, [[0, 4], [1, 5], [2, 6], [3, 7]]
    )
    np.testing.assert_array_equal(groups["grouped"].kernels[0].positions, [[0, 3], [1, 4], [2, 5]])
    [reader] = groups["conv"].readers
    assert (reader.key, reader.positions.tolist()) == ("grouped/kernel", [[0], [1], [2], [3]])


def test_convolution_with_a_group_for_each_input_is_depthwise():
    inputs = image()
    x = conv(8, "grouped", groups=4)(conv(4, "conv")(inputs))
    groups = tfl.channel_groups(keras.Model(inputs, head(x)))
    assert sizes(groups) == {"conv/kernel": 4}
    positions = {m.key: m.positions.tolist() for m in groups["conv"].readers}
    assert positions["grouped/kernel"] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_transposed_and_separable_convolutions():
    inputs = image()
    x = layers.Conv2DTranspose(4, 2, strides=2, name="up")(conv(5, "conv")(inputs))
    x = layers.SeparableConv2D(3, 3, depth_multiplier=2, name="separable")(x)
    groups = tfl.channel_groups(keras.Model(inputs, head(x)))
    assert sizes(groups) == {"conv/kernel": 5, "up/kernel": 4, "separable/pointwise_kernel": 3}
    assert [(m.key, m.axis) for m in groups["conv"].readers] == [("up/kernel", 3)]
    assert groups["up"].kernels[0].axis == 2
    positions = {m.key: m.positions.tolist() for m in groups["up"].readers}
    assert positions["separable/pointwise_kernel"] == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize(("kind", "gates"), [(layers.LSTM, 4), (layers.GRU, 3)])
def test_units_of_recurrent_layers(kind, gates):
    inputs = keras.Input((5, 3))
    x = kind(4, return_sequences=True, name="first")(inputs)
    x = layers.Dense(2, name="head")(kind(3, name="second")(x))
    groups = tfl.channel_groups(keras.Model(inputs, x))
    first = groups["first"]
    paths = [m.key.partition("/")[2].split("/")[-1] for m in first.kernels]
    assert (first.width, paths) == (4, ["kernel", "recurrent_kernel"])
    for member in (*first.kernels, *first.companions):
        np.testing.assert_array_equal(
            member.positions, np.arange(4)[:, None] + 4 * np.arange(gates)
        )
    assert sorted(m.axis for m in first.readers) == [0, 0]
    assert groups["second"].width == 3


def test_heads_and_widths_of_attention():
    inputs = keras.Input((5, 6))
    x = layers.MultiHeadAttention(2, key_dim=3, value_dim=4, name="attention")(inputs, inputs)
    x = layers.LayerNormalization(name="norm")(layers.Add()([inputs, x]))
    x = layers.Dense(6, name="down")(layers.Dense(7, "gelu", name="up")(x))
    groups = tfl.channel_groups(keras.Model(inputs, x))
    widths = {group.name: group.width for group in groups}
    assert widths == {
        "attention/heads": 2,
        "attention/key width": 3,
        "attention/value width": 4,
        "up": 7,
    }
    # Three projections of one head with biases, and the rows of the output projection.
    assert groups.freed()["attention/heads"][0] == 6 * (3 + 3 + 4) + 10 + 4 * 6
    assert groups.fixed == {
        "they are tied to an input of the model": {"attention": 6},
        "an output of the model": {"down": 6},
    }


def test_heads_of_grouped_attention_share_keys():
    inputs = keras.Input((5, 6))
    layer = layers.GroupQueryAttention(3, 4, 2, name="attention")
    groups = tfl.channel_groups(keras.Model(inputs, layer(inputs, inputs)))
    widths = {group.name: group.width for group in groups}
    assert widths == {"attention/heads": 2, "attention/head width": 3}
    positions = {m.key.split("/")[-2]: m.positions.tolist() for m in groups[0].kernels}
    assert positions == {"query": [[0, 1], [2, 3]], "key": [[0], [1]], "value": [[0], [1]]}


def test_norms_that_mix_channels_fix_them():
    inputs = keras.Input((4,))
    x = layers.Dense(5, name="wide")(inputs)
    x = layers.LayerNormalization(name="norm")(x)
    groups = tfl.channel_groups(keras.Model(inputs, layers.Dense(2, name="head")(x)))
    assert len(groups) == 0
    assert groups.fixed["norm: it mixes its channels"] == {"wide": 5}


def test_shared_layers_tie_their_calls():
    a, b = keras.Input((4,)), keras.Input((4,))
    first, shared = layers.Dense(3, name="first"), layers.Dense(5, name="shared")
    x = layers.Subtract()([shared(first(a)), shared(layers.Dense(3, name="other")(b))])
    groups = tfl.channel_groups(keras.Model([a, b], layers.Dense(1, name="head")(x)))
    assert sizes(groups) == {"other/kernel first/kernel": 3, "shared/kernel": 5}


def test_nested_model_that_is_called_twice():
    inside = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="one"), layers.Dense(5, name="two")], name="in"
    )
    a, b = keras.Input((4,)), keras.Input((4,))
    x = layers.Concatenate()([inside(a), inside(b)])
    groups = tfl.channel_groups(keras.Model([a, b], layers.Dense(1, name="head")(x)))
    assert sizes(groups) == {"in/one/kernel": 3, "in/two/kernel": 5}
    [reader] = groups[1].readers
    assert reader.positions.tolist() == [[i, i + 5] for i in range(5)]


class Scale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale")

    def call(self, inputs):
        return inputs * self.scale


class Opaque(Scale):
    """Multiplies in a way that cannot be followed symbolically."""

    def call(self, inputs):
        if isinstance(inputs, keras.KerasTensor):
            raise TypeError("it needs values\nand more")
        return super().call(inputs)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)


class ScaleRule(tfl.structured.Rule):
    def uses(self, node):
        return [tfl.structured.Use(node.operation.scale, 0, "reader", node.outputs[0])]


def scaled(layer):
    hidden, out = layers.Dense(4, name="hidden"), layers.Dense(2, name="out")
    return keras.Sequential([keras.Input((3,)), hidden, layer, out], name="net")


def test_custom_layers_are_looked_into():
    [group] = tfl.channel_groups(scaled(Scale(name="custom")))
    assert [m.key for m in group.readers][0] == "net/custom/scale"


def test_rules_for_custom_layers():
    model = scaled(Opaque(name="custom"))
    groups = tfl.channel_groups(model)
    assert len(groups) == 0
    assert groups.fixed["custom: its `call` cannot be traced: it needs values"] == {"hidden": 4}
    [group] = tfl.channel_groups(model, rules={Opaque: ScaleRule()})
    assert [m.key for m in group.readers] == ["net/custom/scale", "net/out/kernel"]
    assert len(tfl.channel_groups(model, rules={Scale: ScaleRule()})) == 0


@pytest.mark.parametrize("rules", [{Scale: "reader"}, {"Scale": ScaleRule()}, [ScaleRule()]])
def test_wrong_rules(rules):
    with pytest.raises(ValueError, match=r"Argument `rules` must be .* Received: "):
        tfl.channel_groups(scaled(Scale()), rules=rules)


class Net(keras.Model):
    """A subclassed residual network."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(4, name="first")
        self.blocks = [layers.Dense(4, "relu", name=f"block_{i}") for i in range(2)]
        self.out = layers.Dense(2, name="out")

    def call(self, inputs, training=False):
        x = self.first(inputs)
        for block in self.blocks:
            x = x + block(x)
        return self.out(ops.mean(x, axis=1))


def test_subclassed_models_are_followed_through_call():
    model = Net()
    model(np.zeros((1, 3, 5)))
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    groups = tfl.channel_groups(model)
    assert [group.width for group in groups] == [4]
    assert [m.key for m in groups[0].kernels] == [
        f"net/{name}/kernel" for name in ("first", "block_0", "block_1")
    ]
    assert nodes == [len(layer._inbound_nodes) for layer in model.layers]
    # A column of the first kernel, a row and a column of the others, at three positions.
    assert groups.freed()["first"][1] == 3 * (5 + 7 + 7) + 2


def test_sparse_models_have_the_same_groups():
    model = scaled(layers.ReLU())
    expected = tfl.channel_groups(model).to_dict()
    assert tfl.channel_groups(tfl.sparsify(model)).to_dict() == expected


def test_models_in_which_nothing_is_tied():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Softmax()(inputs))
    assert len(tfl.channel_groups(model)) == 0


def test_units_that_stay_count_once():
    model = keras.Sequential([keras.Input((4, 3)), layers.GRU(5, name="gru")])
    assert tfl.channel_groups(model).fixed == {"an output of the model": {"gru": 5}}


def test_wrong_models():
    with pytest.raises(ValueError, match="must be a built Keras model"):
        tfl.channel_groups(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ValueError, match="must be a built Keras model"):
        tfl.channel_groups(None)


def test_printing_is_short():
    inputs = x = image()
    for i in range(9):
        x = conv(4, f"conv_{i}")(x) + x if i else conv(4, "conv_0")(x)
    groups = tfl.channel_groups(keras.Model(inputs, head(x), name="net"))
    text = str(groups)
    assert "net: 1 groups, 4 channels" in text
    assert "9: conv_0/kernel, " in text
    assert sum(f"conv_{i}/kernel" in text for i in range(9)) == 3
    assert "head: an output of the model" in text
