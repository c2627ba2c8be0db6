"""A pruned channel leaves exactly zero: checked by force, on networks of every kind."""

import keras
import numpy as np
import pytest
from keras import layers, ops

BIG = "big networks; test_nothing_leaks has all kinds of layers in small ones"


def conv(filters, **kwargs):
    return layers.Conv2D(filters, 3, padding="same", **kwargs)


def residual(x):
    x = stream = layers.ReLU()(layers.BatchNormalization()(conv(6, use_bias=False)(x)))
    x = layers.BatchNormalization(scale=False)(conv(6)(x))
    x = layers.Add()([stream, layers.Activation("swish")(x)])
    gate = layers.Dense(4, "relu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, layers.Dense(6, "sigmoid")(gate)])
    x = layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization(center=False)(x))
    return layers.Flatten()(layers.MaxPooling2D()(x))


def convolutions(x):
    x = conv(8)(x)
    y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu")(x)
    x = layers.Concatenate()([x, conv(8, groups=2)(y)])
    x = conv(16, groups=16, activation="tanh")(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(6, 3, depth_multiplier=2)(x)
    x = layers.Conv2DTranspose(4, 2, strides=2)(layers.UpSampling2D()(x))
    return layers.GlobalMaxPooling2D()(layers.ZeroPadding2D()(x))


def operations(x):
    x = layers.Dense(8)(x)
    parts = ops.split(x * 2.0, 2, axis=-1)
    x = ops.concatenate([ops.maximum(parts[0], 0.0), -parts[1]], axis=-1)
    x = ops.transpose(ops.relu(x), (0, 2, 1, 3))[:, 1:, ..., 2:] / 3.0
    x = layers.EinsumDense("abcd,de->abce", output_shape=(None, None, 6), bias_axes="e")(x)
    return ops.mean(ops.reshape(x, (-1, 30, 6)), axis=1)


def recurrent(x):
    x = layers.Reshape((36, 3))(x)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    sequence, state = layers.GRU(5, return_sequences=True, return_state=True)(x)
    x = layers.GRU(5, return_sequences=True)(sequence, initial_state=state)
    return layers.SimpleRNN(4)(x)


def attention(x):
    x = layers.Dense(6)(layers.Reshape((36, 3))(x))
    x = x + layers.MultiHeadAttention(3, 4, value_dim=5)(x, x, use_causal_mask=True)
    x = layers.LayerNormalization()(x)
    x = x + layers.GroupQueryAttention(3, 4, 2)(x, x)
    y = layers.Dense(6)(layers.Dense(7, "gelu")(layers.RMSNormalization()(x)))
    return layers.GlobalAveragePooling1D()(x + y)


class Block(layers.Layer):
    """A residual block with a norm and a scale of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inside = layers.Dense(5, "relu")
        self.back = layers.Dense(4)
        self.norm = layers.BatchNormalization()

    def build(self, shape):
        self.inside.build(shape)
        self.back.build((*shape[:-1], 5))
        self.norm.build(shape)
        self.scale = self.add_weight(shape=(4,), name="scale")
        self.shift = self.add_weight(shape=(4,), name="shift")

    def call(self, inputs):
        return self.norm(inputs + self.back(self.inside(inputs)) * self.scale) + self.shift


def custom(x):
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    block = Block()
    return block(block(x))


NETS = [residual, convolutions, operations, recurrent, attention, custom]


@pytest.mark.parametrize("body", NETS, ids=lambda body: body.__name__)
def test_nothing_leaks(body, check_by_force):
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, layers.Dense(3)(body(inputs)))
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    check_by_force(model, x)


@pytest.mark.thorough(BIG)
@pytest.mark.parametrize(
    ("name", "groups"), [("MobileNetV2", 25), ("EfficientNetB0", 40), ("DenseNet121", 120)]
)
def test_nothing_leaks_in_big_networks(name, groups, check_by_force):
    model = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=10)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    found = check_by_force(model, x)
    assert len(found) == groups
    assert found.fixed == {"an output of the model": {"predictions": 10}}
