"""Compaction of dead and constant units of dense layers, with the expected weights."""

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl


def dense_model(*kernels, activation="relu", use_bias=True):
    """Makes a chain of dense layers with these kernels, named d0, d1, ..."""
    model = keras.Sequential([keras.Input((len(kernels[0]),))])
    for i, kernel in enumerate(kernels):
        is_last = i == len(kernels) - 1
        layer = layers.Dense(
            np.shape(kernel)[1], None if is_last else activation, use_bias=use_bias, name=f"d{i}"
        )
        model.add(layer)
        layer.kernel.assign(kernel)
    return model


def weights(model, i):
    return [weight.tolist() for weight in model.get_layer(f"d{i}").get_weights()]


def test_unit_that_nothing_reads_goes():
    model = dense_model([[1, 2, 3], [4, 5, 6]], [[1, 2], [0, 0], [3, 4]])
    model.get_layer("d0").bias.assign([7, 8, 9])
    smaller, report = tfl.compact(model)
    assert weights(smaller, 0) == [[[1, 3], [4, 6]], [7, 9]]
    assert weights(smaller, 1) == [[[1, 2], [3, 4]], [0, 0]]
    assert smaller.get_layer("d0").units == 2
    assert [(r.path, r.units_before, r.units_after) for r in report.rows] == [
        ("d0", 3, 2),
        ("d1", 2, 2),
    ]
    assert (report.parameters_before, report.parameters_after) == (17, 12)
    assert report.kept == report.left_alone == report.gathered == {}


def test_constant_unit_moves_into_the_next_bias():
    model = dense_model([[1, 0], [2, 0]], [[1, 1], [10, 20]])
    model.get_layer("d0").bias.assign([0, 3])
    model.get_layer("d1").bias.assign([0.5, 0])
    smaller, _ = tfl.compact(model)
    assert weights(smaller, 0) == [[[1], [2]], [0]]
    assert weights(smaller, 1) == [[[1, 1]], [30.5, 60]]


@pytest.mark.parametrize(
    "activation, value",
    [("relu", 0.0), ("sigmoid", 1 / (1 + np.exp(2))), ("tanh", np.tanh(-2)), (None, -2.0)],
)
def test_constant_goes_through_the_activation(activation, value):
    model = dense_model([[1, 0]], [[1], [10]], activation=activation)
    model.get_layer("d0").bias.assign([0, -2])
    smaller, _ = tfl.compact(model)
    np.testing.assert_allclose(smaller.get_layer("d1").bias, [10 * value], rtol=1e-6)


def test_layer_without_bias_gets_one_only_for_a_constant():
    kernels = [[1, 2, 0], [2, 3, 0]], [[1], [0], [1]]
    smaller, _ = tfl.compact(dense_model(*kernels, activation="sigmoid", use_bias=False))
    assert not smaller.get_layer("d0").use_bias
    assert weights(smaller, 1) == [[[1]], [0.5]]
    smaller, _ = tfl.compact(dense_model(*kernels, activation="relu", use_bias=False))
    assert weights(smaller, 1) == [[[1]]]


def test_units_go_one_after_the_other():
    model = dense_model(
        # Unit 2 is a constant 4.
        [[1, 2, 0]],
        # So unit 1 is the constant relu(4 + 1), and only a dead unit reads unit 0.
        [[5, 0, 1], [0, 0, 1], [0, 1, 0]],
        # Nothing reads unit 1.
        [[0, 1], [2, 3], [1, 0]],
        [[1], [0]],
    )
    model.get_layer("d0").bias.assign([0, 0, 4])
    model.get_layer("d1").bias.assign([0, 1, 0])
    model.get_layer("d2").bias.assign([0, -100])
    smaller, report = tfl.compact(model)
    assert [row.units_after for row in report.rows] == [2, 1, 1, 1]
    assert weights(smaller, 0) == [[[1, 2]], [0, 0]]
    assert weights(smaller, 1) == [[[1], [1]], [0]]
    assert weights(smaller, 2) == [[[1]], [10]]
    assert weights(smaller, 3) == [[[1]], [0]]


def test_one_unit_of_a_dead_layer_stays():
    model = dense_model([[1, 2]], [[0, 0, 0], [0, 0, 0]], [[1], [2], [3]])
    model.get_layer("d1").bias.assign([1, 1, -1])
    smaller, report = tfl.compact(model)
    assert [row.units_after for row in report.rows] == [1, 1, 1]
    assert weights(smaller, 2) == [[[0]], [3]]
    assert np.array(smaller(np.ones((2, 1)))).tolist() == [[3], [3]]
    assert report.kept == {
        path: ["it would have no units left, so one stays"] for path in ("d0", "d1")
    }


@pytest.mark.parametrize("multiple_of, width", [(1, 2), (2, 2), (3, 3), (4, 4), (7, 5)])
def test_widths_are_rounded_up_as_far_as_there_are_units(multiple_of, width):
    model = dense_model([[1, 1, 1, 0, 0]], [[1], [0], [1], [3], [0]])
    model.get_layer("d0").bias.assign([1, 1, 1, 2, 1])
    x = np.array([[2.0], [-3.0]], "float32")
    smaller, report = tfl.compact(model, multiple_of=multiple_of)
    assert report.rows[0].units_after == width
    np.testing.assert_allclose(smaller(x), model(x), rtol=1e-6)
    reasons = [f"{width - 2} dead units stay for a width that {multiple_of} divides"]
    assert report.kept == ({"d0": reasons} if width > 2 else {})
    assert np.count_nonzero(smaller.get_layer("d0").kernel) == 2


def test_dense_layer_with_several_outputs_keeps_them_all():
    inputs = keras.Input((2,))
    hidden = layers.Dense(3, name="hidden")(inputs)
    model = keras.Model(inputs, {"hidden": hidden, "sum": layers.Dense(1, name="sum")(hidden)})
    model.get_layer("sum").kernel.assign([[0], [0], [1]])
    smaller, report = tfl.compact(model)
    assert [row.units_after for row in report.rows] == [3, 1]
    assert list(smaller.output) == ["hidden", "sum"]


def test_activation_over_all_units_keeps_them():
    model = dense_model([[1, 1, 0]], [[1, 1, 0], [1, 1, 0], [1, 1, 0]], [[1], [0], [0]])
    model.get_layer("d1").activation = keras.activations.softmax
    model.get_layer("d0").bias.assign([0, 0, 1])
    smaller, report = tfl.compact(model)
    assert [row.units_after for row in report.rows] == [2, 3, 1]
    assert weights(smaller, 1) == [[[1, 1, 0], [1, 1, 0]], [1, 1, 0]]
    assert report.kept == {
        "d1": ["its activation is not known to process every channel separately"]
    }


def test_dense_layer_on_sequences():
    inputs = keras.Input((4, 3))
    x = layers.Dense(3, "relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="output")(x))
    model.get_layer("hidden").kernel.assign([[1, 0, 1]] * 3)
    model.get_layer("hidden").bias.assign([0, 2, 0])
    model.get_layer("output").kernel.assign([[1, 1], [3, 0], [0, 0]])
    smaller, _ = tfl.compact(model)
    assert smaller.get_layer("output").get_weights()[0].tolist() == [[1, 1]]
    assert smaller.get_layer("output").get_weights()[1].tolist() == [6, 0]


def test_values_that_are_not_finite_are_no_constants():
    model = dense_model([[1, 0]], [[1], [1]], activation="exponential")
    model.get_layer("d0").bias.assign([0, 1e4])
    smaller, report = tfl.compact(model)
    assert report.rows[0].units_after == 2


def test_weights_that_are_not_finite_are_not_zero():
    model = dense_model([[1, np.nan]], [[1], [1]])
    assert tfl.compact(model)[1].rows[0].units_after == 2


@pytest.mark.parametrize("gather", [False, True])
def test_unused_inputs(gather):
    model = dense_model([[0], [2], [0], [3]], [[1]])
    smaller, report = tfl.compact(model, gather_inputs=gather)
    assert smaller.input_shape == (None, 4)
    assert np.array(smaller(np.array([[1.0, 10, 100, 1000]]))).tolist() == [[3020]]
    assert weights(smaller, 0)[0] == ([[2], [3]] if gather else [[0], [2], [0], [3]])
    assert report.gathered == ({"d0": 2} if gather else {})
    assert isinstance(smaller, keras.Sequential) is not gather


def test_unused_inputs_behind_flatten_and_rounded_up():
    model = keras.Sequential([keras.Input((2, 3)), layers.Flatten(), layers.Dense(1, name="dense")])
    model.get_layer("dense").kernel.assign([[0], [5], [0], [0], [0], [7]])
    smaller, report = tfl.compact(model, gather_inputs=True, multiple_of=4)
    assert smaller.get_layer("dense").kernel.shape == (4, 1)
    assert report.gathered == {"dense": 4}
    assert np.array(smaller(np.arange(6.0).reshape(1, 2, 3))).tolist() == [[40]]
