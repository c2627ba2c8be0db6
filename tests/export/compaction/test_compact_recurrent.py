"""Compaction of units of recurrent layers."""

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl

STEPS = np.random.default_rng(1).normal(size=(3, 4, 3)).astype("float32")


def set_random(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))


def zero_units(layer, units, *, gates, candidate):
    """Sets the candidates of units to zero: kernel columns, recurrent columns and biases."""
    for variable in layer.cell.weights:
        value = np.array(variable)
        blocks = value.reshape(-1, gates, layer.units)
        blocks[:, candidate, units] = 0
        variable.assign(blocks.reshape(value.shape))


KINDS = {
    "lstm": (layers.LSTM, {}, 4, 2),
    "gru": (layers.GRU, {}, 3, 2),
    "other gru": (layers.GRU, {"reset_after": False}, 3, 2),
    "simple rnn": (layers.SimpleRNN, {}, 1, 0),
    "without bias": (layers.LSTM, {"use_bias": False}, 4, 2),
}


@pytest.mark.parametrize("name", KINDS)
def test_units_that_stay_zero_go(name, compact_and_compare):
    kind, options, gates, candidate = KINDS[name]
    layer = kind(5, name="layer", **options)
    model = keras.Sequential([keras.Input((4, 3)), layer, layers.Dense(2)])
    set_random(model)
    zero_units(layer, [1, 3], gates=gates, candidate=candidate)
    smaller, report = compact_and_compare(model, STEPS)
    assert smaller.get_layer("layer").units == 3
    assert report.kept == report.left_alone == {}
    kept = [0, 2, 4]
    recurrent = np.array(layer.cell.recurrent_kernel).reshape(5, gates, 5)
    np.testing.assert_array_equal(
        smaller.get_layer("layer").cell.recurrent_kernel,
        recurrent[kept][..., kept].reshape(3, -1),
    )


def test_unit_that_only_itself_reads_goes(compact_and_compare):
    layer = layers.SimpleRNN(3, name="layer")
    model = keras.Sequential([keras.Input((4, 3)), layer, layers.Dense(1, name="output")])
    set_random(model)
    # Unit 2 reads unit 1; the output and unit 0 read neither.
    layer.cell.recurrent_kernel.assign([[1, 2, 3], [0, 4, 5], [0, 0, 6]])
    model.get_layer("output").kernel.assign([[1], [0], [0]])
    smaller, _ = compact_and_compare(model, STEPS)
    assert np.array(smaller.get_layer("layer").cell.recurrent_kernel).tolist() == [[1]]
    # Through unit 0, the output now reads unit 1, and through that unit 2.
    layer.cell.recurrent_kernel.assign([[1, 0, 0], [2, 3, 0], [0, 4, 5]])
    smaller, _ = compact_and_compare(model, STEPS)
    assert smaller.get_layer("layer").units == 3


def test_unit_with_a_bias_or_a_reader_of_a_live_unit_stays(compact_and_compare):
    layer = layers.LSTM(3, name="layer")
    model = keras.Sequential([keras.Input((4, 3)), layer, layers.Dense(2)])
    set_random(model)
    zero_units(layer, [0, 1, 2], gates=4, candidate=2)
    bias, recurrent = np.array(layer.cell.bias), np.array(layer.cell.recurrent_kernel)
    bias[6], recurrent[0, 7] = 1.0, 1.0
    layer.cell.bias.assign(bias)
    layer.cell.recurrent_kernel.assign(recurrent)
    # Unit 0 has a bias, unit 1 reads unit 0, and unit 2 stays zero.
    smaller, _ = compact_and_compare(model, STEPS)
    assert smaller.get_layer("layer").units == 2


def test_states_that_are_passed_on_lose_the_same_units(compact_and_compare):
    inputs = keras.Input((4, 3))
    first = layers.LSTM(5, return_sequences=True, return_state=True, name="first")
    second = layers.LSTM(5, name="second")
    x, *states = first(inputs)
    model = keras.Model(inputs, layers.Dense(2)(second(x, initial_state=states)))
    set_random(model)
    zero_units(first, [1, 3], gates=4, candidate=2)
    zero_units(second, [3, 4], gates=4, candidate=2)
    smaller, _ = compact_and_compare(model, STEPS)
    # Unit 1 of the first layer is zero, but the second layer has a unit 1 that varies, which
    # needs an initial state; unit 4 of the second starts at a value that varies.
    assert smaller.get_layer("first").units == smaller.get_layer("second").units == 4


def test_units_of_coupled_channels_go(compact_and_compare):
    inputs = keras.Input((4, 3))
    x = layers.GRU(6, return_sequences=True, name="gru")(layers.Dense(4, "tanh")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.LSTM(8, name="lstm")(x)))
    set_random(model)
    groups = tfl.channel_groups(model)
    sparse = tfl.sparsify(model, pattern="channel", sparsity=0.5)
    kept = {name: int(mask.sum()) for name, mask in sparse.kept_channels().items()}
    assert list(kept.values()) == [2, 3, 4]
    smaller, report = compact_and_compare(tfl.strip(sparse), STEPS)
    assert report.parameters_after == groups.accounting.parameters(kept)
    assert smaller.get_layer("gru").units == 3 and smaller.get_layer("lstm").units == 4
