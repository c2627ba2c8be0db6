"""Compaction of dead and constant channels in every kind of layer.

In all models here the first convolution has five channels: 0 and 1 are alive, nothing reads 2, and
3 and 4 have only zero weights, so that 3 is constantly zero and 4 constantly 0.75.
"""

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl

ALIVE, NOT_4, ALL = 2, 3, 5


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


@keras.saving.register_keras_serializable("tests")
class OtherDense(layers.Dense):
    """Computes something else than its base class."""

    def call(self, inputs):
        return super().call(inputs) + keras.ops.mean(inputs, axis=-1, keepdims=True)


def doubled_tanh(x):
    return 2 * keras.ops.tanh(x)


def spread(x):
    return x - keras.ops.max(x, axis=-1, keepdims=True)


def make_model(*between_and_last):
    inputs = x = keras.Input((6, 6, 2))
    x = layers.Conv2D(5, 1, activation="relu", name="first")(x)
    for layer in between_and_last:
        x = layer(x)
    return keras.Model(inputs, x)


def set_weights(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        low = 0.2 if weight.name in ("moving_variance", "gamma", "alpha") else -1.0
        weight.assign(rng.uniform(low, 1, weight.shape))
    first = model.get_layer("first")
    kernel = rng.normal(size=first.kernel.shape)
    kernel[..., 3:] = 0
    first.kernel.assign(kernel)
    first.bias.assign([0.1, -0.1, 0.3, -2, 0.75])


def drop_channel_2(layer):
    """Sets the weights that read channel 2 to zero."""
    name = "pointwise_kernel" if hasattr(layer, "pointwise_kernel") else "kernel"
    variable = getattr(getattr(layer, "cell", layer), name)
    kernel = np.array(variable)
    axis = -1 if "Transpose" in type(layer).__name__ else -2
    if kernel.shape[axis] % 5 == 0:
        np.moveaxis(kernel, axis, 0)[2::5] = 0
    variable.assign(kernel)


BETWEEN = {
    "relu": (lambda: layers.ReLU(), ALIVE),
    "leaky relu": (lambda: layers.LeakyReLU(), ALIVE),
    "sigmoid": (lambda: layers.Activation("sigmoid"), ALIVE),
    "softmax": (lambda: layers.Softmax(), ALL),
    "softmax activation": (lambda: layers.Activation("softmax"), ALL),
    "own activation": (lambda: layers.Activation(spread), ALL),
    "prelu": (lambda: layers.PReLU(), ALIVE),
    "shared prelu": (lambda: layers.PReLU(shared_axes=[1, 2, 3]), ALIVE),
    "dropout": (lambda: layers.Dropout(0.5), ALIVE),
    "dropout of a shape": (lambda: layers.Dropout(0.5, noise_shape=(1, 1, 1, 5)), ALL),
    "spatial dropout": (lambda: layers.SpatialDropout2D(0.5), ALIVE),
    "noise": (lambda: layers.GaussianNoise(0.5), ALIVE),
    "batch normalization": (lambda: layers.BatchNormalization(), ALIVE),
    "without scale": (lambda: layers.BatchNormalization(scale=False, center=False), ALIVE),
    "other axis": (lambda: layers.BatchNormalization(axis=1), ALL),
    "layer normalization": (lambda: layers.LayerNormalization(), ALL),
    "max pooling": (lambda: layers.MaxPooling2D(3, 2, padding="same"), ALIVE),
    "average pooling": (lambda: layers.AveragePooling2D(3, 2, padding="same"), ALIVE),
    "zero padding": (lambda: layers.ZeroPadding2D(1), NOT_4),
    "cropping": (lambda: layers.Cropping2D(1), ALIVE),
    "nearest": (lambda: layers.UpSampling2D(2), ALIVE),
    "bilinear": (lambda: layers.UpSampling2D(2, interpolation="bilinear"), NOT_4),
    "depthwise valid": (lambda: layers.DepthwiseConv2D(3, activation="relu"), ALIVE),
    "depthwise same": (lambda: layers.DepthwiseConv2D(3, padding="same"), NOT_4),
    "depthwise 1x1": (lambda: layers.DepthwiseConv2D(1, padding="same"), ALIVE),
    "depthwise softmax": (lambda: layers.DepthwiseConv2D(3, activation="softmax"), ALL),
    # Of its ten channels, nothing reads 2 and 7, which come from channels 1 and 3.
    "depth multiplier": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), ALIVE + 1),
    "permuted space": (lambda: layers.Permute((2, 1, 3)), ALIVE),
    "permuted channels": (lambda: layers.Permute((1, 3, 2)), ALL),
    "reshaped space": (lambda: layers.Reshape((4, 9, 5)), ALIVE),
    "reshaped channels": (lambda: layers.Reshape((9, 5, 4)), ALL),
    "joined channels": (lambda: layers.Reshape((6, 3, 10)), ALIVE),
    "lambda": (lambda: layers.Lambda(lambda x: x * 2), ALIVE),
    "own layer": (Doubled, ALIVE),
    "own elementwise activation": (lambda: layers.Activation(doubled_tanh), ALIVE),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_layer_between_convolutions(name, compact_and_compare):
    make_layer, expected = BETWEEN[name]
    between, last = make_layer(), layers.Conv2D(3, 3, name="last")
    model = make_model(between, last)
    set_weights(model)
    drop_channel_2(last)
    x = np.random.default_rng(1).normal(size=(3, 6, 6, 2)).astype("float32")
    smaller, report = compact_and_compare(model, x)
    assert smaller.get_layer("first").filters == expected
    assert (between.name in report.left_alone) == (expected == ALL)
    has_zeros = name in ("zero padding", "bilinear", "depthwise same")
    assert [len(reasons) for reasons in report.kept.values()] == [1] * has_zeros
    if has_zeros:
        assert report.kept[between.name][0].startswith("1 constant inputs stay: ")


LAST = {
    "dense": (lambda: [layers.Dense(3)], ALIVE),
    "softmax": (lambda: [layers.Dense(3, "softmax")], ALIVE),
    "own dense": (lambda: [OtherDense(3)], ALL),
    "valid": (lambda: [layers.Conv2D(3, 3)], ALIVE),
    "same": (lambda: [layers.Conv2D(3, 3, padding="same")], NOT_4),
    "same 1x1": (lambda: [layers.Conv2D(3, 1, 2, padding="same")], ALIVE),
    "transposed": (lambda: [layers.Conv2DTranspose(3, 3)], NOT_4),
    "separable valid": (lambda: [layers.SeparableConv2D(3, 3, depth_multiplier=2)], ALIVE),
    "separable same": (lambda: [layers.SeparableConv2D(3, 3, padding="same")], NOT_4),
    "flatten": (lambda: [layers.Flatten(), layers.Dense(3)], ALIVE),
    "average": (lambda: [layers.GlobalAveragePooling2D(), layers.Dense(3)], ALIVE),
    "maximum": (lambda: [layers.GlobalMaxPooling2D(keepdims=True), layers.Conv2D(3, 1)], ALIVE),
    "causal": (lambda: [layers.Reshape((-1, 5)), layers.Conv1D(3, 3, padding="causal")], NOT_4),
    "volume": (lambda: [layers.Reshape((4, 3, 3, 5)), layers.Conv3D(3, 2)], ALIVE),
    "lstm": (lambda: [layers.Reshape((36, 5)), layers.LSTM(3)], ALIVE),
    "lstm without bias": (lambda: [layers.Reshape((36, 5)), layers.LSTM(3, use_bias=False)], ALIVE),
    "gru": (lambda: [layers.Reshape((36, 5)), layers.GRU(3)], ALIVE),
    "gru without bias": (lambda: [layers.Reshape((36, 5)), layers.GRU(3, use_bias=False)], ALIVE),
    "other gru": (lambda: [layers.Reshape((36, 5)), layers.GRU(3, reset_after=False)], ALIVE),
    "simple rnn": (lambda: [layers.Reshape((36, 5)), layers.SimpleRNN(3)], ALIVE),
}


@pytest.mark.parametrize("name", LAST)
def test_layer_that_reads_channels(name, compact_and_compare):
    make_layers, expected = LAST[name]
    following = make_layers()
    model = make_model(*following)
    set_weights(model)
    if name != "separable valid":
        drop_channel_2(following[-1])
    else:
        kernel = np.array(following[0].depthwise_kernel)
        kernel[..., 2, :] = 0
        following[0].depthwise_kernel.assign(kernel)
    x = np.random.default_rng(1).normal(size=(3, 6, 6, 2)).astype("float32")
    smaller, report = compact_and_compare(model, x)
    assert smaller.get_layer("first").filters == expected
    assert len(report.left_alone) == (expected == ALL)


def test_groups_of_a_convolution_stay_equal(compact_and_compare, randomize):
    inputs = keras.Input((4, 3))
    x = layers.Conv1D(6, 1, name="first")(inputs)
    x = layers.Conv1D(8, 3, groups=2, padding="same", name="grouped")(x)
    model = randomize(keras.Model(inputs, layers.Conv1D(2, 1, name="last")(x)), 0)
    first, grouped, last = (model.get_layer(name) for name in ("first", "grouped", "last"))
    # Input 1 of both groups is dead, and input 2 of the second one.
    first.kernel.assign(np.array(first.kernel) * [1, 0, 1, 1, 0, 0])
    first.bias.assign([0.5, 0, 0.5, 0.5, 0, 0])
    kernel = np.array(last.kernel)
    kernel[:, [0, 4, 7]] = 0  # Output 0 of both groups is dead, and output 3 of the second one.
    last.kernel.assign(kernel)
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    smaller, report = compact_and_compare(model, x)
    assert [row.units_after for row in report.rows] == [4, 6, 2]
    assert smaller.get_layer("grouped").kernel.shape == (3, 2, 6)
    _, report = compact_and_compare(model, x, multiple_of=4)
    assert [row.units_after for row in report.rows] == [4, 8, 2]


@pytest.mark.parametrize("axis_first", [False, True])
def test_constant_in_a_valid_convolution_is_multiplied_by_the_sum_of_its_weights(axis_first):
    inputs = keras.Input((5, 2))
    x = layers.Conv1D(2, 1, name="first")(inputs)
    model = keras.Model(inputs, layers.Conv1D(1, 3, name="last")(x))
    model.get_layer("first").kernel.assign([[[1, 0], [1, 0]]])
    model.get_layer("first").bias.assign([0, 5])
    model.get_layer("last").kernel.assign([[[1], [2]], [[1], [3]], [[1], [4]]])
    smaller, _ = tfl.compact(model)
    assert np.array(smaller.get_layer("last").bias).tolist() == [45]
    assert np.array(smaller.get_layer("last").kernel).tolist() == [[[1]], [[1]], [[1]]]


@pytest.mark.backend
def test_batch_normalization_is_sliced_and_its_shift_is_a_constant():
    inputs = keras.Input((2,))
    x = layers.Dense(3, use_bias=False, name="hidden")(inputs)
    x = layers.BatchNormalization(epsilon=0.0, name="norm")(x)
    model = keras.Model(inputs, layers.Dense(1, name="output")(x))
    model.get_layer("hidden").kernel.assign([[1, 0, 2], [1, 0, 2]])
    # Channel 1 is the constant (0 - 6) * 2 / sqrt(9) + 1, channel 2 the constant 7.
    model.get_layer("norm").set_weights(
        [np.array(v, "float32") for v in ([1, 2, 0], [3, 1, 7], [4, 6, 5], [1, 9, 1])]
    )
    model.get_layer("output").kernel.assign([[1], [10], [100]])
    smaller, report = tfl.compact(model)
    assert [w.tolist() for w in smaller.get_layer("norm").get_weights()] == [[1], [3], [4], [1]]
    assert smaller.get_layer("hidden").units == 1
    np.testing.assert_allclose(smaller.get_layer("output").bias, [-30 + 700], rtol=1e-6)


@pytest.mark.parametrize("slopes, units", [([0.5, 0.5], 1), ([0.5, 0.25], 2)])
def test_slopes_of_a_negative_constant_must_agree(slopes, units, compact_and_compare):
    inputs = keras.Input((2, 3))
    x = layers.PReLU(name="prelu")(layers.Dense(2, name="hidden")(inputs))
    model = keras.Model(inputs, layers.Dense(1, name="output")(x))
    model.get_layer("hidden").kernel.assign([[1, 0], [1, 0], [1, 0]])
    model.get_layer("hidden").bias.assign([0, -2])
    model.get_layer("prelu").alpha.assign([[0.3, slopes[0]], [0.1, slopes[1]]])
    model.get_layer("output").kernel.assign([[1], [3]])
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype("float32")
    smaller, report = compact_and_compare(model, x)
    assert smaller.get_layer("hidden").units == units
    assert smaller.get_layer("prelu").alpha.shape == (2, units)
    assert np.array(smaller.get_layer("output").bias).tolist() == [-3 if units == 1 else 0]


def test_pooling_of_masked_steps_is_left_alone(compact_and_compare):
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(5, 3, mask_zero=True, name="embedding")(inputs)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(1, name="output")(x))
    model.get_layer("output").kernel.assign([[1], [0], [0]])
    _, report = compact_and_compare(model, np.array([[1, 2, 0, 0], [4, 3, 2, 1]]))
    assert report.left_alone == {"pool": "it is called with a mask or other tensors"}
    assert report.rows[0].units_after == 3


def test_input_that_a_scale_of_zero_hides_is_not_needed():
    inputs = keras.Input((2,))
    x = layers.Dense(2, name="hidden")(layers.Dense(2, name="first")(inputs))
    norm = layers.BatchNormalization(name="norm")
    # Layer normalization needs all channels, so the constant channel stays.
    model = keras.Model(inputs, layers.LayerNormalization()(norm(x)))
    model.get_layer("hidden").kernel.assign([[1, 0], [0, 1]])
    norm.gamma.assign([1, 0])
    norm.beta.assign([0, 3])
    smaller, report = tfl.compact(model)
    assert [row.units_after for row in report.rows[:3]] == [1, 2, 2]
    assert np.array(smaller.get_layer("hidden").kernel).tolist() == [[1, 0]]
    assert np.array(smaller.get_layer("norm").beta).tolist() == [0, 3]
    x = np.array([[1, -2], [3, 5]], "float32")
    np.testing.assert_allclose(smaller(x), model(x), atol=1e-6)


def test_separable_convolution_reads_a_channel_by_any_of_its_kernels():
    inputs = keras.Input((4, 2))
    x = layers.Conv1D(3, 1, name="first")(inputs)
    last = layers.SeparableConv1D(2, 2, depth_multiplier=2, name="last")
    model = keras.Model(inputs, last(x))
    # Channel 0 has only its second kernel, nothing reads that of channel 1, and 2 has none.
    last.depthwise_kernel.assign([[[0, 1], [1, 0], [0, 0]], [[0, 2], [1, 0], [0, 0]]])
    last.pointwise_kernel.assign([[[0, 0], [1, 1], [0, 0], [5, 5], [6, 6], [7, 7]]])
    smaller, report = tfl.compact(model)
    assert [row.units_after for row in report.rows] == [1, 2]
    last = smaller.get_layer("last")
    assert np.array(last.depthwise_kernel).tolist() == [[[0, 1]], [[0, 2]]]
    assert np.array(last.pointwise_kernel).tolist() == [[[0, 0], [1, 1]]]


def test_columns_of_an_embedding_and_masked_steps(compact_and_compare):
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True, name="embedding")(inputs)
    x = layers.LSTM(3, return_sequences=True, name="lstm")(x)
    x = layers.GRU(2, name="gru")(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    table, kernel = np.array(model.weights[0]), np.array(model.get_layer("lstm").cell.kernel)
    table[:, 1], kernel[3] = 0.5, 0
    model.weights[0].assign(table)
    model.get_layer("lstm").cell.kernel.assign(kernel)
    x = np.array([[1, 2, 3, 0, 0], [6, 5, 4, 3, 2], [1, 0, 0, 0, 0]])
    smaller, report = compact_and_compare(model, x)
    assert smaller.get_layer("embedding").output_dim == 2
    np.testing.assert_array_equal(smaller.get_layer("embedding").embeddings, table[:, [0, 2]])
    assert report.kept == {}


def test_batch_normalization_that_always_trains_is_left_alone(compact_and_compare):
    inputs = keras.Input((3,))
    norm = layers.BatchNormalization(name="norm")
    x = norm(layers.Dense(4, name="hidden")(inputs), training=True)
    model = keras.Model(inputs, layers.Dense(2)(x))
    model.get_layer("hidden").kernel.assign(np.diag([1.0, 1, 1, 0])[:3])
    _, report = tfl.compact(model)
    assert report.rows[0].units_after == 4
    assert "training" in report.left_alone["norm"]


def test_recurrent_layer_that_keeps_its_state_starts_anew(compact_and_compare):
    inputs = keras.Input(batch_shape=(2, 4, 3))
    x = layers.Dense(3, name="hidden")(inputs)
    model = keras.Model(inputs, layers.LSTM(2, stateful=True, name="lstm")(x))
    model.get_layer("hidden").kernel.assign(np.diag([1.0, 1, 0]))
    x = np.ones((2, 4, 3), "float32")
    model(x)
    model.get_layer("lstm").reset_state()
    smaller, report = compact_and_compare(model, x)
    assert report.rows[0].units_after == 2
    np.testing.assert_allclose(smaller(-x), model(-x), atol=1e-6)


def test_quantized_layer_is_left_alone(compact_and_compare):
    model = make_model(layers.Dense(4, name="hidden"), layers.Dense(2, name="output"))
    set_weights(model)
    model.get_layer("hidden").quantize("int8")
    x = np.ones((2, 6, 6, 2), "float32")
    _, report = compact_and_compare(model, x)
    assert report.left_alone == {"hidden": "its kernel is quantized or has an adapter"}
    assert report.rows[0].units_after == 5


def test_channels_first_is_left_alone():
    inputs = keras.Input((3, 4))
    pool = layers.GlobalAveragePooling1D(data_format="channels_first", name="pool")
    x = pool(layers.Dense(4, name="hidden")(inputs))
    model = keras.Model(inputs, layers.Dense(2, kernel_initializer="zeros")(x))
    _, report = tfl.compact(model)
    assert report.left_alone == {"pool": "its channels are not on the last axis"}
    assert report.rows[0].units_after == 4
