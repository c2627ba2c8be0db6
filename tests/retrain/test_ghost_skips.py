import keras
import numpy as np
import pytest
from keras import layers, ops

import tf_lottery as tfl
from tf_lottery._keras import all_layers

EPSILON = 1e-5


def outputs(model, x, **kwargs):
    return ops.convert_to_numpy(model(x, **kwargs))


def set_branches(tweak, seed=5):
    """Sets the branches' weights and statistics to random values; returns them as arrays."""
    rng, found = np.random.default_rng(seed), []
    for branch in tweak.branches:
        for weight in branch.weights:
            value = rng.normal(0, 0.5, weight.shape)
            weight.assign(np.abs(value) + 0.5 if weight.name.endswith("variance") else value)
        found.append([ops.convert_to_numpy(weight) for weight in branch.weights])
    return found


def branch_of(x, values, strides=1):
    kernel, gamma, beta, mean, variance = values
    y = x[:, ::strides, ::strides] @ kernel[0, 0]
    return (y - mean) / np.sqrt(variance + EPSILON) * gamma + beta


def test_convolutions_larger_than_1x1_get_skips(make_residual):
    model = tfl.sparsify(make_residual())
    tweak = tfl.retrain.ghost_skips(model)
    assert tweak.layer_names == ["stem", "first", "second", "third"]
    assert tweak.skipped == {"output/kernel": "not the kernel of a Conv1D, Conv2D or Conv3D layer"}
    names = [layer.name for layer in all_layers(model.model)]
    behind = [skip["after"] for skip in tweak.skips]
    assert [i and names[i] for i in behind] == [None, "first_norm", "second_norm", None]


def test_branch_is_added_inside_of_a_convolution_with_activation():
    plain = keras.Sequential(
        [keras.Input((4, 4, 2)), layers.Conv2D(3, 3, strides=2, padding="same", activation="relu")]
    )
    model = tfl.sparsify(plain)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 2)).astype("float32")
    convolved = ops.convert_to_numpy(
        ops.conv(x, plain.layers[0].kernel, strides=2, padding="same") + plain.layers[0].bias
    )
    tweak = tfl.retrain.ghost_skips(model)
    # Initially all weights are 1e-4, and the statistics are not trained.
    skip = 1e-4 * x[:, ::2, ::2].sum(-1, keepdims=True) / np.sqrt(1 + EPSILON)
    np.testing.assert_allclose(
        outputs(model, x), np.maximum(convolved + skip, 0), rtol=1e-5, atol=1e-6
    )
    values = set_branches(tweak)[0]
    tweak.factor.assign(0.25)
    expected = np.maximum(convolved + 0.25 * branch_of(x, values, strides=2), 0)
    np.testing.assert_allclose(outputs(model, x), expected, rtol=1e-4, atol=1e-5)


def test_branch_is_added_behind_the_normalization():
    inputs = keras.Input((4, 4, 3))
    y = layers.Conv2D(3, 3, padding="same", use_bias=False)(inputs)
    norm = layers.BatchNormalization(scale=False)
    plain = keras.Model(inputs, layers.ReLU()(norm(y) + inputs))
    norm.moving_mean.assign([1.0, 2.0, 3.0])
    model = tfl.sparsify(plain)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    normalized = ops.convert_to_numpy(norm(ops.conv(x, plain.layers[1].kernel, padding="same")))
    values = set_branches(tfl.retrain.ghost_skips(model))[0]
    expected = np.maximum(normalized + branch_of(x, values) + x, 0)
    np.testing.assert_allclose(outputs(model, x), expected, rtol=1e-4, atol=1e-5)


def test_branches_of_a_shared_block_are_added_at_every_call(make_model, make_data):
    plain = make_model("nested")
    model, x = tfl.sparsify(plain), make_data("nested")[0]
    tweak = tfl.retrain.ghost_skips(model)
    assert len(tweak.layer_names) == 1
    values = set_branches(tweak)[0]
    (block,) = (layer for layer in plain.layers if layer.name == "block")
    y = ops.convert_to_numpy(block(x)) + branch_of(x, values)
    joined = np.concatenate([y, np.maximum(y, 0)], -1)
    for layer in plain.layers[4:]:
        joined = layer(joined)
    np.testing.assert_allclose(outputs(model, x), joined, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("filters", "strides", "expected"),
    [
        (2, 1, [[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]]),
        (3, 1, [[[[1.0, 2.0, 0.0], [3.0, 4.0, 0.0]], [[5.0, 6.0, 0.0], [7.0, 8.0, 0.0]]]]),
        (1, 1, [[[[1.0], [3.0]], [[5.0], [7.0]]]]),
        (2, 2, [[[[4.0, 5.0]]]]),
    ],
)
def test_identity_branches_have_no_weights(filters, strides, expected):
    x = np.arange(1.0, 9.0, dtype="float32").reshape(1, 2, 2, 2)
    plain = keras.Sequential(
        [
            keras.Input((2, 2, 2)),
            layers.Conv2D(filters, 3, strides, padding="same", kernel_initializer="zeros"),
        ]
    )
    model = tfl.sparsify(plain)
    count = len(model.trainable_variables)
    tfl.retrain.ghost_skips(model, branch="identity")
    assert len(model.trainable_variables) == count
    np.testing.assert_array_equal(outputs(model, x), expected)


def test_convolutions_of_other_ranks_have_skips():
    inputs = keras.Input((8, 2))
    x = layers.Conv1D(3, 3, padding="causal", strides=2)(inputs)
    x = layers.Reshape((2, 2, 1, 3))(x)
    plain = keras.Model(inputs, layers.Conv3D(2, 3, padding="same")(x))
    model = tfl.sparsify(plain)
    assert len(tfl.retrain.ghost_skips(model).layer_names) == 2
    assert outputs(model, np.ones((1, 8, 2), "float32")).shape == (1, 2, 2, 1, 2)


def test_channels_first_branches_have_the_right_axes():
    plain = keras.Sequential(
        [
            keras.Input((3, 4, 4)),
            layers.Conv2D(5, 3, strides=2, padding="same", data_format="channels_first"),
        ]
    )
    tweak = tfl.retrain.ghost_skips(tfl.sparsify(plain))
    assert [tuple(weight.shape) for weight in tweak.branches[0].weights] == [(1, 1, 3, 5)] + 4 * [
        (5,)
    ]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: layers.Conv2D(3, 3), "padding 'valid' makes the output smaller than the input"),
        (lambda: layers.Conv2D(3, 1), "a 1x1 convolution, which gets a skip only if `include`"),
        (lambda: layers.SeparableConv2D(3, 3, padding="same"), "not the kernel of a Conv1D"),
        (lambda: layers.Conv2DTranspose(3, 3, padding="same"), "not the kernel of a Conv1D"),
    ],
)
def test_what_can_have_no_skip_is_listed_with_the_reason(make, reason):
    first = layers.Conv2D(3, 3, padding="same")
    plain = keras.Sequential([keras.Input((6, 6, 3)), first, make()])
    (found,) = tfl.retrain.ghost_skips(tfl.sparsify(plain)).skipped.values()
    assert found.startswith(reason)


def test_convolutions_are_selected_as_kernels_are(make_residual):
    def names(**kwargs):
        return tfl.retrain.ghost_skips(tfl.sparsify(make_residual()), **kwargs).layer_names

    assert names(exclude="stem|third") == ["first", "second"]
    assert names(include="second") == ["second"]
    plain = keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(2, 1, name="narrow")])
    assert tfl.retrain.ghost_skips(tfl.sparsify(plain), include="narrow").layer_names == ["narrow"]


def test_epsilon_decides_how_large_the_branches_are_at_first(sparse, images):
    tweak = tfl.retrain.ghost_skips(sparse, epsilon=1e-5)
    x = np.random.default_rng(0).normal(size=(64, 3, 3, 4)).astype("float32")
    small = np.std(tweak.branches[1](x, training=True))
    tfl.retrain.remove_ghost_skips(sparse)
    tweak = tfl.retrain.ghost_skips(sparse, epsilon=1e-3)
    assert np.std(tweak.branches[1](x, training=True)) < small / 5


def test_annealed_model_computes_what_the_plain_one_does(sparse, images, fade, compile_model):
    tfl.retrain.ghost_skips(sparse)
    compile_model(sparse, keras.optimizers.SGD(0.01)).fit(*images, epochs=2, verbose=0)
    fade(sparse)
    plain = outputs(sparse.model, images[0])
    np.testing.assert_array_equal(outputs(sparse, images[0]), plain)
    assert tfl.strip(sparse) is sparse.model
    tfl.retrain.remove_ghost_skips(sparse)
    np.testing.assert_array_equal(outputs(sparse, images[0]), plain)


def test_branches_are_trained_and_updated(sparse, images, compile_model):
    tweak = tfl.retrain.ghost_skips(sparse)
    before = [ops.convert_to_numpy(weight) for weight in tweak.branches[1].weights]
    compile_model(sparse, keras.optimizers.SGD(0.1)).fit(*images, verbose=0)
    for weight, value in zip(tweak.branches[1].weights, before, strict=True):
        assert np.any(ops.convert_to_numpy(weight) != value), weight.path


def test_skips_are_not_counted(sparse, make_residual):
    density, parameters = sparse.density, sparse.model.count_params()
    tfl.retrain.ghost_skips(sparse)
    assert sparse.density == density and sparse.model.count_params() == parameters
    assert list(sparse.kernels) == list(tfl.sparsify(make_residual()).kernels)


def test_model_with_skips_in_effect_is_neither_stripped_nor_exported(sparse, tmp_path):
    tfl.retrain.ghost_skips(sparse)
    for use in (tfl.strip, lambda model: tfl.export_tflite(model, tmp_path / "model.tflite")):
        with pytest.raises(ValueError, match="GhostSkipAnnealing.*Received: .* factor 1"):
            use(sparse)


def test_compiled_model_has_to_be_compiled_anew(sparse, images, compile_model):
    compile_model(sparse).fit(*images, verbose=0)
    for change in (tfl.retrain.ghost_skips, tfl.retrain.remove_ghost_skips):
        change(sparse)
        with pytest.raises(ValueError, match="compile"):
            sparse.fit(*images, verbose=0)
        compile_model(sparse).fit(*images, verbose=0)


def test_wrong_arguments_are_named(sparse, make_model):
    with pytest.raises(ValueError, match="`branch` must be one of"):
        tfl.retrain.ghost_skips(sparse, branch="pooled")
    with pytest.raises(ValueError, match="`epsilon` must be a number > 0"):
        tfl.retrain.ghost_skips(sparse, epsilon=0)
    with pytest.raises(ValueError, match=r"`momentum` must be in \[0, 1\)"):
        tfl.retrain.ghost_skips(sparse, momentum=1)
    with pytest.raises(ValueError, match="must have a masked convolution.*left out: "):
        tfl.retrain.ghost_skips(tfl.sparsify(make_model("dense")))
    tfl.retrain.ghost_skips(sparse)
    with pytest.raises(ValueError, match="must not have ghost skips yet"):
        tfl.retrain.ghost_skips(sparse)


class Interleaved(keras.Model):
    """Calls a convolution twice, and then a normalization twice."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(2, 3, padding="same", use_bias=False)
        self.norm = layers.BatchNormalization(epsilon=0.0)

    def build(self, input_shape):
        self.conv.build(input_shape)
        self.norm.build(input_shape)

    def call(self, inputs):
        first, second = self.conv(inputs), self.conv(2 * inputs)
        return self.norm(first) - 3 * self.norm(second)


def test_branches_find_their_own_call():
    plain = Interleaved()
    plain.build((None, 4, 4, 2))
    model = tfl.sparsify(plain)
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 2)).astype("float32")
    expected = outputs(plain, x) + x - 3 * 2 * x
    tfl.retrain.ghost_skips(model, branch="identity")
    np.testing.assert_allclose(outputs(model, x), expected, rtol=1e-4, atol=1e-5)


def test_causal_identity_does_not_look_ahead():
    plain = keras.Sequential(
        [
            keras.Input((6, 1)),
            layers.Conv1D(1, 3, strides=2, padding="causal", kernel_initializer="zeros"),
        ]
    )
    model = tfl.sparsify(plain)
    tfl.retrain.ghost_skips(model, branch="identity")
    x = np.arange(6.0, dtype="float32").reshape(1, 6, 1)
    np.testing.assert_array_equal(outputs(model, x)[0, :, 0], [0, 2, 4])
