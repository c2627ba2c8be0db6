"""Tests of which layers and subclassed models are replaced by the calls inside them."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tf_lottery as tfl


class Followed(keras.Model):
    """A subclassed model whose `call` is a function."""

    def __init__(self, function):
        super().__init__()
        self.hidden = layers.Dense(3, name="hidden")
        self.other = layers.Dense(3, name="other")
        self.norm = layers.BatchNormalization(name="norm")
        self.function = function

    def build(self, shape):
        for layer in (self.hidden, self.other, self.norm):
            layer.build((None, 3))
        self.built = True

    def call(self, inputs, training=None):
        x = self.norm(self.hidden(inputs), training=training)
        return self.function(self, x, training)


def in_training(net, x, training):
    return net.other(x) if training else x


def at_a_constant(net, x, training):
    return x + net.other(ops.ones((1, 3)))


def tied(net, x, training):
    return ops.matmul(net.other(x), ops.transpose(net.hidden.kernel))


def frozen(net, x, training):
    return net.norm(net.other(x), training=False)


def noisy(net, x, training):
    return layers.Dropout(0.5, name="noise")(net.other(x), training=True)


CASES = {
    in_training: "no call with its inputs at inference: .*other/kernel",
    at_a_constant: "no call with its inputs at inference: .*other/kernel",
    tied: "no call with its inputs at inference: .*hidden/kernel",
    frozen: "sets `training` of layers inside it: norm",
    noisy: "sets `training` of layers inside it: noise",
}


@pytest.mark.parametrize("function", CASES)
def test_models_that_differ_from_the_calls_inside_are_refused(function):
    model = Followed(function)
    model.build((None, 3))
    with pytest.raises(ValueError, match=f"`model` must have .* Received: .*{CASES[function]}"):
        tfl.compact(model)


class Block(layers.Layer):
    """A layer whose `call` has another default than that of a layer inside it."""

    def build(self, shape):
        self.norm = layers.BatchNormalization(name="norm")
        self.norm.build(shape)

    def call(self, inputs, training=False):
        return self.norm(inputs, training=training)


def test_argument_that_is_passed_on_is_not_set():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2)(Block()(layers.Dense(4)(inputs))))
    assert tfl.compact(model)[1].left_alone == {}


class TwoArguments(keras.Model):
    def call(self, a, b):
        return a + b


def test_models_with_inputs_in_several_arguments_are_refused():
    model = TwoArguments()
    model(np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="all inputs in its first argument"):
        tfl.compact(model)
