import keras
import numpy as np
import pytest
from keras import layers

from tf_lottery.layers.kernel_uses import kernel_uses, same_padded_shape

CASES = {
    "dense": (layers.Dense(3), (2, 4), [2]),
    "dense on a sequence": (layers.Dense(3), (1, 5, 4), [5]),
    "conv 1d": (layers.Conv1D(3, 3), (1, 9, 2), [7]),
    "conv 1d causal": (layers.Conv1D(3, 3, padding="causal"), (1, 9, 2), [9]),
    "conv 2d": (layers.Conv2D(3, 3, strides=2), (1, 9, 7, 2), [4 * 3]),
    "conv 2d same": (layers.Conv2D(3, 3, strides=2, padding="same"), (1, 9, 7, 2), [5 * 4]),
    "conv 2d groups": (layers.Conv2D(4, 3, groups=2), (1, 5, 5, 2), [3 * 3]),
    "conv 2d dilated": (layers.Conv2D(3, 3, dilation_rate=2), (1, 9, 9, 2), [5 * 5]),
    "conv 3d": (layers.Conv3D(3, 2), (1, 4, 5, 6, 2), [3 * 4 * 5]),
    "conv transpose": (layers.Conv2DTranspose(3, 3, strides=2), (1, 4, 5, 2), [4 * 5]),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=2), (1, 5, 6, 2), [3 * 4]),
    "depthwise 1d": (layers.DepthwiseConv1D(3), (1, 5, 2), [3]),
    "separable": (layers.SeparableConv2D(4, 3, strides=2), (1, 7, 7, 2), [9, 9]),
    "einsum": (layers.EinsumDense("abc,cde->abde", (5, 2, 3)), (1, 5, 4), [5]),
    "einsum, axis shared": (layers.EinsumDense("abc,bcd->abd", (5, 3)), (1, 5, 4), [1]),
    "einsum, open left": (layers.EinsumDense("...x,xy->...y", 3), (1, 5, 6, 4), [30]),
    "einsum, open right": (layers.EinsumDense("abx...,xy->aby...", (2, 3, 7)), (1, 2, 4, 7), [14]),
    "rnn": (layers.SimpleRNN(3), (1, 5, 4), [5, 5]),
    "lstm": (layers.LSTM(3), (1, 5, 4), [5, 5]),
    "gru": (layers.GRU(3, return_sequences=True), (1, 5, 4), [5, 5]),
    "stacked": (layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)]), (1, 5, 4), [5] * 4),
    "conv lstm 1d": (layers.ConvLSTM1D(3, 3), (2, 5, 9, 4), [2 * 5 * 7] * 2),
    "conv lstm 3d": (layers.ConvLSTM3D(3, 2), (1, 5, 2, 3, 4, 1), [5 * 1 * 2 * 3] * 2),
    "embedding": (layers.Embedding(7, 3), (1, 5), [0]),
}


@pytest.mark.parametrize("name", CASES)
def test_uses(name):
    layer, input_shape, expected = CASES[name]
    output_shape = layer(keras.KerasTensor(input_shape)).shape
    assert [times for _, times in kernel_uses(layer, input_shape, output_shape)] == expected


def convolve(x, kernel, strides):
    """Returns a valid 2D convolution, computed with loops, and its number of multiplications."""
    (rows, columns, _), (high, wide, _, filters) = x.shape, kernel.shape
    y = np.zeros(((rows - high) // strides + 1, (columns - wide) // strides + 1, filters))
    count = 0
    for index in np.ndindex(y.shape):
        row, column, f = index[0] * strides, index[1] * strides, index[2]
        products = x[row : row + high, column : column + wide] * kernel[..., f]
        y[index], count = products.sum(), count + products.size
    return y, count


def test_a_convolution_takes_the_multiplications_of_its_definition():
    layer = layers.Conv2D(3, (3, 2), strides=2, use_bias=False)
    x = np.random.default_rng(0).normal(size=(1, 8, 7, 2)).astype("float32")
    y = keras.ops.convert_to_numpy(layer(x))
    expected, count = convolve(x[0], keras.ops.convert_to_numpy(layer.kernel), strides=2)
    np.testing.assert_allclose(y[0], expected, atol=1e-5)
    [(kernel, uses)] = kernel_uses(layer, x.shape, y.shape)
    assert kernel.shape == (3, 2, 2, 3)
    assert 36 * uses == count


def test_channels_first():
    layer = layers.Conv2D(3, 3, strides=2, data_format="channels_first")
    output_shape = layer.compute_output_shape((1, 2, 9, 7))
    layer.build((1, 2, 9, 7))
    assert kernel_uses(layer, (1, 2, 9, 7), output_shape)[0][1] == 4 * 3
    assert same_padded_shape(layer, (1, 2, 9, 7), output_shape) == (1, 3, 5, 4)
    layer = layers.ConvLSTM2D(3, 3, data_format="channels_first")
    layer.build((1, 5, 2, 9, 7))
    assert [uses for _, uses in kernel_uses(layer, (1, 5, 2, 9, 7), (1, 3, 7, 5))] == [
        5 * 7 * 5
    ] * 2


def test_same_padding_is_assumed_of_convolutions_alone():
    conv = layers.Conv2D(3, 3, strides=2)
    assert same_padded_shape(conv, (1, 9, 7, 2), (1, 4, 3, 3)) == (1, 5, 4, 3)
    assert same_padded_shape(layers.Dense(3), (1, 5, 4), (1, 5, 3)) == (1, 5, 3)


def test_cells_of_another_kind_have_no_rule():
    class Cell(layers.Layer):
        state_size = output_size = 3

        def call(self, inputs, states):
            return inputs, states

    assert kernel_uses(layers.RNN(Cell()), (1, 5, 3), (1, 3)) == []
