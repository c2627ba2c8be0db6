"""Tests of the arguments, the kinds of models, and the attributes of the smaller model."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.structured.exact_graph import OWN_WEIGHTS


def small_model():
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((3,), name="b")}
    x = layers.Concatenate(name="join")([inputs["a"], inputs["b"]])
    x = layers.Dense(
        6,
        "relu",
        kernel_regularizer=keras.regularizers.L2(0.5),
        kernel_constraint=keras.constraints.MaxNorm(3),
        kernel_initializer=keras.initializers.HeNormal(seed=3),
        name="hidden",
    )(x)
    outputs = {name: layers.Dense(n, name=name)(x) for name, n in (("y", 2), ("z", 3))}
    return keras.Model(inputs, outputs, name="small")


@pytest.fixture
def pruned(randomize):
    return randomize(small_model(), 0.8)


X = {"a": np.ones((2, 4), "float32"), "b": -np.ones((2, 3), "float32")}


def test_structure_names_and_configuration_stay(pruned, compact_and_compare):
    smaller, report = compact_and_compare(pruned, X)
    assert smaller.name == "small" and report.name == "small"
    assert list(smaller.input) == ["a", "b"] and smaller.output_names == pruned.output_names
    assert {name: x.shape for name, x in smaller.input.items()} == {"a": (None, 4), "b": (None, 3)}
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in pruned.layers]
    old, new = pruned.get_layer("hidden").get_config(), smaller.get_layer("hidden").get_config()
    assert new.pop("units") < old.pop("units")
    assert new == old
    assert not smaller.compiled
    smaller.compile("sgd", "mse")
    smaller.fit(X, {"y": np.ones((2, 2)), "z": np.ones((2, 3))}, verbose=0)
    assert np.isfinite(pruned(X)["y"]).all()


def test_saved_model_needs_nothing_else(pruned, tmp_path):
    smaller, _ = tfl.compact(pruned, gather_inputs=True)
    smaller.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    for name, expected in smaller(X).items():
        np.testing.assert_array_equal(loaded(X)[name], expected)
    modules = {type(operation).__module__.split(".")[0] for operation in smaller.operations}
    assert modules == {"keras"}


def test_sparse_model_is_stripped():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(9, "relu"), layers.Dense(2, name="output")]
    )
    sparse = tfl.sparsify(model, sparsity=0.9)
    x = np.ones((2, 4), "float32")
    expected = np.array(sparse(x))
    smaller, report = tfl.compact(sparse)
    np.testing.assert_allclose(smaller(x), expected, atol=1e-6)
    assert type(smaller) is keras.Sequential and report.rows[0].units_after < 9
    assert np.count_nonzero(model.layers[0].kernel) < 36


def test_sequential_model_built_later():
    model = keras.Sequential([layers.Dense(3, name="a"), layers.Dense(2, name="b")])
    model.build((None, 4))
    model.get_layer("b").kernel.assign([[1, 1], [0, 0], [1, 1]])
    smaller, _ = tfl.compact(model)
    assert smaller.get_layer("a").units == 2 and smaller.input_shape == (None, 4)


@pytest.mark.parametrize("trainable", ["all", "none", "one layer", "one weight", "outer model"])
def test_trainable_flags_stay(trainable, pruned):
    if trainable == "none":
        pruned.trainable = False
    if trainable == "one layer":
        pruned.get_layer("hidden").trainable = False
    if trainable == "one weight":
        pruned.get_layer("hidden").bias.trainable = False
    if trainable == "outer model":
        pruned.trainable = False
        for layer in pruned.layers:
            layer.trainable = True
    smaller, _ = tfl.compact(pruned)
    assert smaller.trainable == pruned.trainable
    assert [x.trainable for x in smaller.layers] == [x.trainable for x in pruned.layers]
    assert [x.trainable for x in smaller.weights] == [x.trainable for x in pruned.weights]
    assert len(smaller.trainable_weights) == len(pruned.trainable_weights)


@pytest.mark.parametrize(
    "precision", ["mixed_float16", "mixed_bfloat16", "bfloat16"], indirect=True
)
def test_precision_of_every_layer_stays(precision, randomize, compact_and_compare):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(8, 3, activation="relu", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(),
            layers.Dense(3, dtype="float32", name="dense"),
        ]
    )
    randomize(model, 0.97)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype("float32")
    smaller, report = compact_and_compare(model, x, tolerance=2e-2)
    assert report.rows[0].units_after < 8
    assert [layer.dtype_policy.name for layer in smaller.layers] == [
        layer.dtype_policy.name for layer in model.layers
    ]
    assert [x.dtype for x in smaller.weights] == [x.dtype for x in model.weights]


def test_initial_values_of_the_old_shape_do_not_hinder(tmp_path):
    table = np.array([[1.0, 2, 3], [4, 5, 6]], "float32")
    model = keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            layers.Embedding(2, 3, keras.initializers.Constant(table), name="table"),
            layers.Dense(1, name="dense"),
        ]
    )
    model.get_layer("dense").kernel.assign([[1], [0], [1]])
    smaller, _ = tfl.compact(model)
    assert np.array(smaller.get_layer("table").embeddings).tolist() == [[1, 3], [4, 6]]
    smaller.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").count_params() == 7


def test_statistics_and_seeds_are_copied(compact_and_compare):
    normalization = layers.Normalization(name="normalize")
    normalization.adapt(np.array([[1.0, 2, 3], [5, 7, 11]], "float32"))
    model = keras.Sequential(
        [keras.Input((3,)), normalization, layers.Dropout(0.5, name="dropout"), layers.Dense(2)]
    )
    state = model.get_layer("dropout").seed_generator.state
    state.assign(np.array([5, 6], state.dtype))
    smaller, report = compact_and_compare(model, np.ones((2, 3), "float32"))
    assert "normalize" in report.left_alone
    assert np.array(smaller.get_layer("dropout").seed_generator.state).tolist() == [5, 6]


def test_report_prints_and_serializes(pruned):
    report = tfl.compact(pruned, multiple_of=4)[1]
    result = json.loads(json.dumps(report.to_dict()))
    assert result["ratio"] == report.parameters_before / report.parameters_after
    assert {row["path"] for row in result["rows"]} == {"hidden", "y", "z"}
    text = " ".join(str(report).split())
    assert "hidden" in text and "times fewer" in text
    for path, reasons in report.kept.items():
        assert path in text and reasons[0].split()[0] in text


def test_report_lists_what_is_left_alone():
    inputs = keras.Input((4,))
    x = layers.LayerNormalization(name="norm")(layers.Dense(3, name="hidden")(inputs))
    x = layers.Dense(2)(Scale(name="scale")(x))
    report = tfl.compact(keras.Model(inputs, x))[1]
    assert report.left_alone == {
        "norm": "it mixes its channels",
        "scale": OWN_WEIGHTS,
    }
    assert "Left alone:" in str(report) and "norm: it mixes its channels" in str(report)


def test_report_joins_the_layers_with_the_same_reason():
    x = inputs = keras.Input((4,))
    for i in range(5):
        x = layers.LayerNormalization(name=f"norm_{i}")(x)
    text = str(tfl.compact(keras.Model(inputs, x))[1])
    assert "norm_0, norm_1, norm_2 and 2 more: it mixes its channels" in text


def test_tensors_without_channels():
    inputs = keras.Input((4,))
    mean = layers.Lambda(lambda x: keras.ops.mean(x, axis=-1), output_shape=(), name="mean")
    model = keras.Model(inputs, mean(layers.Dense(3)(inputs)))
    smaller, report = tfl.compact(model)
    assert list(report.left_alone.values()) == ["the number of its channels is not known"]
    x = np.arange(8.0).reshape(2, 4)
    np.testing.assert_allclose(smaller(x), model(x))


def test_model_without_weights():
    model = keras.Sequential([keras.Input((4,)), layers.ReLU()])
    smaller, report = tfl.compact(model)
    assert report.rows == [] and report.ratio == 1.0
    assert smaller.output_shape == (None, 4)


class WithoutConfig(layers.Layer):
    """A layer with weights of its own, and without `get_config`."""

    def __init__(self, table, **kwargs):
        super().__init__(**kwargs)
        self.kernel = self.add_weight(shape=np.shape(table), name="kernel")
        self.kernel.assign(table)

    def call(self, inputs):
        return inputs @ self.kernel


class WithoutArgument(layers.Layer):
    """A layer with a layer inside, and a config that lacks an argument."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.inside = layers.Dense(units, name="inside")

    def call(self, inputs):
        return self.inside(inputs)

    def get_config(self):
        return {"name": self.name}


class Scale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale")

    def call(self, inputs):
        return inputs * self.scale


class OwnCall(keras.Model):
    def call(self, inputs):
        return 2 * super().call(inputs)


def test_subclassed_models_become_functional(make_model, make_data, compact_and_compare, randomize):
    model = randomize(make_model("subclassed"), 0.8)
    smaller, report = compact_and_compare(model, make_data("subclassed")[0])
    assert not isinstance(smaller, type(model))
    assert report.parameters_after < report.parameters_before
    assert [row.path for row in report.rows] == [model.hidden.name, model.head.name]
    x = make_data("subclassed")[0]
    assert not np.allclose(smaller(x, training=True), smaller(x))  # Dropout still works.
    inputs = keras.Input((2,))
    model = OwnCall(
        inputs,
        layers.Dense(2, bias_initializer="ones")(
            layers.Dense(3, kernel_initializer="zeros")(inputs)
        ),
    )
    smaller, report = compact_and_compare(model, np.ones((1, 2), "float32"))
    assert [row.units_after for row in report.rows] == [1, 2]


class OwnWeights(keras.Model):
    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale")
        self.built = True

    def call(self, inputs):
        return inputs * self.scale


class OwnLoop(OwnWeights):
    def call(self, inputs):
        return inputs if float(inputs[0, 0]) > 0 else -inputs


@pytest.mark.parametrize("kind", [OwnWeights, OwnLoop])
def test_subclassed_models_that_cannot_be_followed_are_refused(kind):
    model = kind()
    model.build((None, 3))
    with pytest.raises(ValueError, match=r"Argument `model` must have .* Received: model="):
        tfl.compact(model)


def test_wrong_arguments_are_named(pruned):
    for model in (None, layers.Dense(2), "model"):
        with pytest.raises(ValueError, match=r"`model` must be .*Received: model="):
            tfl.compact(model)
    with pytest.raises(ValueError, match=r"start it with a `keras\.Input`.*Received: "):
        tfl.compact(keras.Sequential([layers.Dense(2)]))
    for value in (0, 1.5, True, "8"):
        with pytest.raises(ValueError, match=r"`multiple_of` must be .*Received: multiple_of="):
            tfl.compact(pruned, multiple_of=value)
    with pytest.raises(ValueError, match=r"`gather_inputs` must be .*Received: gather_inputs=1"):
        tfl.compact(pruned, gather_inputs=1)


def test_layers_that_cannot_be_copied_are_used_by_both_models(compact_and_compare):
    inputs = keras.Input((2,))
    own = WithoutConfig(np.array([[1.0, 2], [3, 4]]), name="own")
    model = keras.Model(inputs, layers.Dense(1)(own(layers.Dense(2, name="hidden")(inputs))))
    x = np.array([[1, 2], [3, -1]], "float32")
    smaller, report = compact_and_compare(model, x)
    assert report.reused == ["own"]
    assert smaller.get_layer("own") is own
    assert "own: both models have the same layer" in " ".join(str(report).split())
    # The kernels of a sparse model have their masks only while it is compacted.
    with pytest.raises(ValueError, match=r"`model` must .*Received: layer 'own' .*`get_config`"):
        tfl.compact(tfl.sparsify(model, sparsity=0.5))


class SameLayer(layers.Layer):
    """A layer whose config has the layer inside itself."""

    def __init__(self, inside, **kwargs):
        super().__init__(**kwargs)
        self.inside = inside

    def call(self, inputs):
        return self.inside(inputs)

    def get_config(self):
        return {"name": self.name, "inside": self.inside}


def test_layers_inside_a_copy_are_copies():
    model = keras.Sequential([keras.Input((2,)), SameLayer(layers.Dense(3, name="inside"))])
    smaller, _ = tfl.compact(tfl.sparsify(model, sparsity=0.5))
    assert smaller.layers[-1].name.endswith("inside")
    assert smaller.layers[-1] is not model.layers[0].inside


def test_layers_inside_one_that_cannot_be_copied_are_copied(compact_and_compare):
    inputs = keras.Input((2,))
    model = keras.Sequential([inputs, WithoutArgument(3, name="own"), layers.Dense(1)])
    model.build((None, 2))
    sparse = tfl.sparsify(model, sparsity=0.5)
    smaller, report = tfl.compact(sparse)
    assert report.reused == [] and smaller.layers[1].name == "own_inside"
    assert report.replaced == ["own"]
    assert "own: the calls inside it" in " ".join(str(report).split())
    x = np.array([[1, 2], [3, -1]], "float32")
    outputs = [keras.ops.convert_to_numpy(net(x)) for net in (sparse, smaller)]
    np.testing.assert_allclose(*outputs, atol=1e-6)


def test_layers_inside_get_names_that_no_other_layer_has(compact_and_compare):
    model = keras.Sequential(
        [keras.Input((2,)), WithoutArgument(3, name="own"), layers.Dense(1, name="own_inside")]
    )
    x = np.array([[1, 2], [3, -1]], "float32")
    _, report = compact_and_compare(model, x)
    assert report.reused == ["own"] and report.replaced == []  # Nothing in it is dead.
    model.layers[1].kernel.assign([[1], [0], [2]])
    smaller, report = compact_and_compare(model, x)
    assert report.reused == [] and report.replaced == ["own"]
    assert [layer.name for layer in smaller.layers[1:]] == ["own_inside_1", "own_inside"]
