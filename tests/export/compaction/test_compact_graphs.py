"""Compaction of models with branches, merges, nested and shared layers."""

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl


@pytest.fixture
def branches():
    """Returns a function of a merge: two dense layers of four units, merged, read by a third.

    The left units are [alive, 2, 0, alive], the right ones [alive, 3, alive, alive].
    """

    def branches(join, width=4, kernel=None):
        inputs = keras.Input((3,))
        left = layers.Dense(4, name="left")(inputs)
        right = layers.Dense(4, name="right")(inputs)
        output = layers.Dense(2, name="output")
        model = keras.Model(inputs, output(join(left, right)))
        rng = np.random.default_rng(0)
        for name, zeros in (("left", [1, 2]), ("right", [1])):
            values = rng.uniform(0.5, 1, (3, 4))
            values[:, zeros] = 0
            model.get_layer(name).kernel.assign(values)
        model.get_layer("left").bias.assign([0.5, 2, 0, 1])
        model.get_layer("right").bias.assign([1, 3, 0.5, 0.5])
        output.kernel.assign(rng.normal(size=output.kernel.shape) if kernel is None else kernel)
        output.bias.assign([1, -1])
        return model

    return branches


X = np.random.default_rng(1).normal(size=(5, 3)).astype("float32")
JOINTS = {
    "add": (lambda a, b: layers.Add()([a, b]), 5.0),
    "plus": (lambda a, b: a + b, 5.0),
    "subtract": (lambda a, b: layers.Subtract()([a, b]), -1.0),
    "minus": (lambda a, b: a - b, -1.0),
    "average": (lambda a, b: layers.Average()([a, b]), 2.5),
    "maximum": (lambda a, b: layers.Maximum()([a, b]), 3.0),
    "minimum": (lambda a, b: keras.ops.minimum(a, b), 2.0),
}


@pytest.mark.parametrize("name", JOINTS)
def test_channel_stays_if_it_lives_in_any_branch(name, branches, compact_and_compare):
    join, constant = JOINTS[name]
    model = branches(join, kernel=[[1, 1], [10, 20], [1, 1], [0, 0]])
    smaller, report = compact_and_compare(model, X)
    # Channel 1 is constant in both branches, 2 only on the left, and nothing reads 3.
    assert [row.units_after for row in report.rows] == [2, 2, 2]
    expected = [1 + 10 * constant, -1 + 20 * constant]
    np.testing.assert_allclose(smaller.get_layer("output").bias, expected, rtol=1e-6)
    [reasons] = report.kept.values()
    assert reasons == ["1 constant inputs stay: it is joined with a channel that varies"]


def test_numbers_are_added_to_constants(branches, compact_and_compare):
    model = branches(lambda a, b: ((a + 3.0) * 2.0 - 1) + keras.ops.maximum(1.5 - b, 0.5))
    smaller, report = compact_and_compare(model, X)
    # Channel 1 is 2 on the left and 3 on the right, the others vary.
    assert [row.units_after for row in report.rows] == [3, 3, 2]
    assert report.left_alone == {}


@pytest.mark.parametrize("operator", [False, True])
def test_zero_in_one_branch_ends_a_product(operator, branches, compact_and_compare):
    join = (lambda a, b: a * b) if operator else (lambda a, b: layers.Multiply()([a, b]))
    smaller, report = compact_and_compare(branches(join), X)
    assert [row.units_after for row in report.rows] == [2, 2, 2]
    assert report.kept == {}


def test_concatenated_branches_are_sliced_one_by_one(branches, compact_and_compare):
    model = branches(
        lambda a, b: layers.Concatenate()([a, b]),
        kernel=[[1, 1], [1, 1], [1, 1], [0, 0], [0, 0], [0, 0], [1, 1], [2, 1]],
    )
    smaller, report = compact_and_compare(model, X)
    assert [row.units_after for row in report.rows] == [1, 2, 2]
    np.testing.assert_array_equal(
        smaller.get_layer("output").kernel, np.array([[1, 1], [1, 1], [2, 1]])
    )
    np.testing.assert_array_equal(
        smaller.get_layer("right").kernel, np.array(model.get_layer("right").kernel)[:, 2:]
    )


def test_sequences_after_each_other_are_not_touched(compact_and_compare):
    inputs = keras.Input((2, 3))
    left, right = layers.Dense(4, name="left")(inputs), layers.Dense(4, name="right")(inputs)
    x = layers.Concatenate(axis=1, name="join")([left, right])
    output = layers.Dense(1, name="output")
    model = keras.Model(inputs, output(x))
    output.kernel.assign([[1], [0], [0], [1]])
    _, report = compact_and_compare(model, np.ones((2, 2, 3), "float32"))
    assert [row.units_after for row in report.rows] == [4, 4, 1]
    assert report.left_alone == {"join": "it joins another axis than the last"}


def test_sum_with_a_variable_is_left_alone(branches, compact_and_compare):
    shift = keras.Variable(np.ones(4, "float32"))
    model = branches(lambda a, b: layers.Add(name="join")([a, b]) + shift)
    _, report = compact_and_compare(model, X)
    assert [row.units_after for row in report.rows] == [4, 4, 2]
    assert list(report.left_alone.values()) == [
        "it is called with other values than tensors and numbers"
    ]
    assert len(report.reused) == 1


def test_masked_weight_that_an_operation_reads_is_refused():
    hidden = layers.Dense(4, name="hidden")
    x = hidden(keras.Input((4,), name="x"))
    model = keras.Model(hidden.input, keras.ops.matmul(x, hidden.kernel))
    with pytest.raises(ValueError, match="layer 'matmul.*reads a masked weight of another layer"):
        tfl.compact(tfl.sparsify(model, sparsity=0.5))


def test_channels_of_a_residual_connection_from_the_input_stay(compact_and_compare, randomize):
    inputs = keras.Input((3,))
    x = layers.Dense(3, name="hidden")(layers.Dense(5, "relu", name="wide")(inputs))
    model = randomize(keras.Model(inputs, layers.Dense(1, name="output")(x + inputs)), 0)
    model.get_layer("output").kernel.assign([[1], [0], [2]])
    smaller, report = compact_and_compare(model, X)
    assert [row.units_after for row in report.rows] == [5, 3, 1]
    assert report.kept == {
        "hidden": ["1 dead units stay because they are reshaped or joined with live ones"]
    }
    smaller, report = compact_and_compare(model, X, gather_inputs=True)
    assert smaller.get_layer("output").kernel.shape == (2, 1)


def test_inputs_are_selected_beside_units_that_went(compact_and_compare, randomize):
    inputs = keras.Input((3,))
    x = layers.Concatenate()([layers.Dense(3, name="hidden")(inputs), inputs])
    model = randomize(keras.Model(inputs, layers.Dense(1, name="output")(x)), 0)
    model.get_layer("output").kernel.assign([[0], [1], [0], [2], [0], [3]])
    smaller, report = compact_and_compare(model, X, gather_inputs=True)
    assert np.array(smaller.get_layer("output").kernel).tolist() == [[1], [2], [3]]
    assert report.gathered == {"output": 3}


def test_wrapped_layers_select_no_inputs(compact_and_compare, randomize):
    steps = layers.TimeDistributed(layers.Dense(2, name="inside"))
    model = randomize(keras.Sequential([keras.Input((4, 3)), steps]), 0)
    steps.layer.kernel.assign([[1, 2], [0, 0], [3, 4]])
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    _, report = compact_and_compare(model, x, gather_inputs=True)
    assert report.gathered == {}


def test_dense_units_behind_a_reshape_to_channels(compact_and_compare, randomize):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(12, "relu", name="dense"),
            layers.Reshape((2, 2, 3), name="reshape"),
            layers.Conv2D(2, 2, name="conv"),
        ]
    )
    randomize(model, 0)
    kernel = np.array(model.get_layer("conv").kernel)
    kernel[..., 1, :] = 0
    model.get_layer("conv").kernel.assign(kernel)
    smaller, report = compact_and_compare(model, X)
    assert [row.units_after for row in report.rows] == [8, 2]
    assert smaller.get_layer("reshape").target_shape == (2, 2, 2)
    # Channel 0 is constant at one position only.
    kernel = np.array(model.get_layer("dense").kernel)
    kernel[:, 3] = 0
    model.get_layer("dense").kernel.assign(kernel)
    _, report = compact_and_compare(model, X)
    assert [row.units_after for row in report.rows] == [8, 2]


def test_single_positions_behind_flatten_do_not_free_a_channel(compact_and_compare, randomize):
    model = keras.Sequential(
        [
            keras.Input((2, 3)),
            layers.Conv1D(3, 1, name="conv"),
            layers.Flatten(),
            layers.Dense(2, name="dense"),
        ]
    )
    randomize(model, 0)
    kernel = np.array(model.get_layer("dense").kernel)
    kernel[[1, 4, 2]] = 0  # Channel 1 at both positions, channel 2 at the first one.
    model.get_layer("dense").kernel.assign(kernel)
    smaller, _ = compact_and_compare(model, np.ones((2, 2, 3), "float32"))
    np.testing.assert_array_equal(smaller.get_layer("dense").kernel, kernel[[0, 2, 3, 5]])


def nested_model(training=None):
    block = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, "relu", name="a"), layers.Dense(4, name="b")],
        name="block",
    )
    inner = keras.Input((4,))
    stem = keras.Model(inner, layers.BatchNormalization(name="norm")(block(inner)), name="stem")
    inputs = keras.Input((3,))
    x = stem(layers.Dense(4, "relu", name="hidden")(inputs), training=training)
    return keras.Model(inputs, layers.Dense(2, name="output")(x), name="outer")


def test_nested_models_are_compacted(compact_and_compare, randomize):
    model = randomize(nested_model(training=False), 0.85)
    smaller, report = compact_and_compare(model, X)
    paths = ["hidden", "stem/block/a", "stem/block/b", "stem/norm", "output"]
    assert [row.path for row in report.rows] == paths
    stem = smaller.get_layer("stem")
    block = stem.get_layer("block")
    assert isinstance(block, keras.Sequential) and block.name == "block"
    found = [block.get_layer("a").units, block.get_layer("b").units]
    assert found == [row.units_after for row in report.rows[1:3]]
    assert found[0] < 5 and found[1] < 4
    assert stem.input_shape == (None, smaller.get_layer("hidden").units)
    assert report.left_alone == {}


def test_nested_model_that_always_trains_is_left_alone(randomize):
    model = randomize(nested_model(training=True), 0.85)
    _, report = tfl.compact(model)
    reason = "it is called with other values than tensors, or always as in training"
    assert report.left_alone == {"stem": reason}
    assert [row.units_after for row in report.rows] == [4, 4, 2]


def test_nested_model_of_another_kind_stays_if_nothing_in_it_is_dead(
    make_model, compact_and_compare
):
    inputs = keras.Input((4, 2))
    inner = make_model("subclassed")
    x = inner(layers.Dense(2, name="hidden")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="output")(x))
    model.get_layer("hidden").kernel.assign([[1, 0], [1, 1]])
    x = np.random.default_rng(0).normal(size=(2, 4, 2)).astype("float32")
    smaller, report = compact_and_compare(model, x)
    assert type(smaller.get_layer(inner.name)) is type(inner)
    assert [row.path for row in report.rows] == ["hidden", inner.name, "output"]
    model.get_layer("hidden").kernel.assign([[1, 0], [1, 0]])
    smaller, report = compact_and_compare(model, x)
    assert smaller.get_layer("hidden").units == 1
    assert inner not in smaller.layers


def test_model_called_twice_is_compacted_once(make_model, make_data, compact_and_compare):
    model, x = make_model("nested"), make_data("nested")[0]
    for layer in model.get_layer("block").layers:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(layer.kernel * (np.arange(layer.kernel.shape[-1]) > 0))
    smaller, report = compact_and_compare(model, x)
    assert report.left_alone == {}
    assert smaller.get_layer("block").count_params() < model.get_layer("block").count_params()
    before = keras.ops.convert_to_numpy(smaller(x))
    block = smaller.get_layer("block")
    block.layers[0].kernel.assign(block.layers[0].kernel * 2)
    assert not np.allclose(keras.ops.convert_to_numpy(smaller(x)), before)


def test_units_of_a_layer_called_twice_go_if_they_are_dead_in_both_calls(
    compact_and_compare, randomize
):
    inputs = keras.Input((3,))
    shared, relu = layers.Dense(4, name="shared"), layers.ReLU(name="relu")
    a = relu(layers.Dense(3, name="hidden")(inputs))
    x = layers.Concatenate()([relu(shared(a)), relu(shared(inputs))])
    model = randomize(keras.Model(inputs, layers.Dense(2, name="output")(x)), 0)
    kernel = np.array(model.get_layer("output").kernel)
    kernel[[0, 1, 4, 6]] = 0  # Nothing reads unit 0; 1 and 2 are read in one call each.
    model.get_layer("output").kernel.assign(kernel)
    smaller, report = compact_and_compare(model, X)
    assert report.left_alone == {}
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in model.layers]
    assert len(smaller.weights) == 6
    assert smaller.get_layer("shared").units == 3


@pytest.mark.parametrize("biases, units", [([5, 5], 1), ([5, 6], 2)])
def test_constants_that_a_layer_reads_in_two_calls_must_agree(biases, units, compact_and_compare):
    inputs, shared = keras.Input((3,)), layers.Dense(2, name="shared")
    a, b = (layers.Dense(2, name=name) for name in "ab")
    model = keras.Model(inputs, layers.Subtract()([shared(a(inputs)), shared(b(inputs)) * 2.0]))
    for layer, bias in zip((a, b), biases, strict=True):
        layer.kernel.assign([[1, 0], [2, 0], [3, 0]])
        layer.bias.assign([0, bias])
    smaller, _ = compact_and_compare(model, X)
    assert [smaller.get_layer(name).units for name in "ab"] == [units, units]
    assert smaller.get_layer("shared").kernel.shape == (units, 2)


def test_layer_that_is_called_in_training_mode_once_stays(compact_and_compare):
    inputs, norm = keras.Input((3,)), layers.BatchNormalization(name="norm")
    x = norm(layers.Dense(4, name="a")(inputs))
    y = norm(layers.Dense(4, name="b")(inputs), training=True)
    model = keras.Model(inputs, layers.Dense(2, name="output")(layers.Add()([x, y])))
    model.get_layer("output").kernel.assign([[1, 1], [0, 0], [1, 2], [0, 0]])
    _, report = tfl.compact(model)
    assert "training" in report.left_alone["norm"]
    assert [row.units_after for row in report.rows if row.path in "ab"] == [4, 4]
    inputs = keras.Input((3,))
    block = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.ReLU(), layers.Dense(2)])
    model = keras.Model(inputs, block(inputs) + block(inputs, training=True))
    block.layers[2].kernel.assign([[1, 1], [0, 0], [1, 2], [0, 0]])
    smaller, _ = compact_and_compare(model, X)
    assert smaller.count_params() == model.count_params()


def test_layers_without_weights_can_be_shared(compact_and_compare, randomize):
    inputs = keras.Input((3,))
    relu = layers.ReLU()
    x = relu(layers.Dense(6, name="a")(inputs))
    x = relu(layers.Dense(5, name="b")(x))
    model = randomize(keras.Model(inputs, layers.Dense(2, name="output")(x)), 0.8)
    smaller, report = compact_and_compare(model, X)
    assert report.left_alone == {}
    assert smaller.get_layer("a").units < 6 and smaller.get_layer("b").units < 5


@pytest.mark.parametrize("kind", ["recurrent_deep", "attention", "dict_inputs", "dense"])
def test_models_of_other_kinds(kind, make_model, make_data, compact_and_compare, randomize):
    model = randomize(make_model(kind), 0.7)
    x = make_data(kind)[0]
    smaller, report = compact_and_compare(model, x)
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in model.layers]
    mixing = {"attention": ["layer_norm"]}
    assert len(report.left_alone) == len(mixing.get(kind, []))
    for name, path in zip(mixing.get(kind, []), report.left_alone, strict=True):
        assert path.startswith(name)
