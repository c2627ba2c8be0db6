import math

import keras
import numpy as np
import pytest
from keras import layers, ops

import tf_lottery as tfl
from tf_lottery.layers.soft_activations import SoftActivation

X = np.array([-30.0, -1.5, -0.2, 0.0, 0.4, 2.0, 30.0], "float32")


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def derived(name, x, beta):
    """Returns the values of the published functions, f(beta x) / beta."""
    u = beta * x.astype("float64")
    values = {
        "swish": u * sigmoid(u),
        "pswish": u * sigmoid(u),
        "gelu": u * np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in u]),
        "mish": u * np.tanh(np.logaddexp(0, u)),
        "elu": np.where(u > 0, u, np.expm1(np.minimum(u, 0))),
        "softplus": np.logaddexp(0, u),
    }
    return values[name] / beta


ALL = ["swish", "pswish", "gelu", "mish", "elu", "softplus"]


def outputs(model, x):
    return ops.convert_to_numpy(model(x))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("beta", [0.5, 1.0, 7.0])
def test_activations_are_the_published_functions(name, beta):
    found = SoftActivation(name, beta)(ops.convert_to_tensor(X))
    np.testing.assert_allclose(found, derived(name, X, beta), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_activations_near_the_rectifier_as_one_over_beta(name):
    distances = [
        np.abs(derived(name, X, beta) - np.maximum(X, 0)).max() * beta for beta in (20.0, 2000.0)
    ]
    assert max(distances) <= 1


def test_largest_value_of_relu6_is_kept():
    assert float(SoftActivation("swish", 1.0, max_value=6.0)(ops.ones(()) * 30)) == 6


def test_pswish_starts_at_twice_the_slope(sparse):
    assert tfl.retrain.soft_activations(sparse, "pswish").beta == 2


def test_layers_and_arguments_are_replaced(sparse, images):
    before = outputs(sparse.model, images[0])
    tweak = tfl.retrain.soft_activations(sparse)
    assert tweak.layer_names == ["stem", "first_relu", "second_relu", "third_relu"]
    assert [target["max_value"] for target in tweak.targets] == [None, None, None, 6.0]
    assert np.abs(outputs(sparse, images[0]) - before).max() > 1e-3
    np.testing.assert_array_equal(outputs(sparse.model, images[0]), before)
    assert sparse.model.get_layer("stem").activation is keras.activations.relu


def test_dense_network_computes_the_published_function(make_model, make_data):
    model = tfl.sparsify(make_model("dense"))
    tfl.retrain.soft_activations(model, "swish", beta=1.5)
    x = make_data("dense")[0]
    (first, bias), (second, last) = (
        map(ops.convert_to_numpy, layer.weights) for layer in model.model.layers
    )
    hidden = x @ first + bias
    expected = hidden * sigmoid(1.5 * hidden) @ second + last
    np.testing.assert_allclose(outputs(model, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_annealed_model_computes_with_exact_rectifiers(name, sparse, images, fade):
    before = outputs(sparse, images[0])
    tweak = tfl.retrain.soft_activations(sparse, name)
    fade(sparse)
    assert tweak.beta == math.inf
    np.testing.assert_array_equal(outputs(sparse, images[0]), before)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_finite_at_the_end(name, sparse, images, fade, compile_model):
    tfl.retrain.soft_activations(sparse, name)
    fade(sparse)
    compile_model(sparse, "sgd").fit(*images, verbose=0)
    assert all(np.isfinite(ops.convert_to_numpy(v)).all() for v in sparse.variables)


@pytest.mark.parametrize(
    ("layer", "is_replaced"),
    [
        (layers.ReLU(), True),
        (layers.ReLU(max_value=4.0), True),
        (layers.ReLU(negative_slope=0.1), False),
        (layers.ReLU(threshold=1.0), False),
        (layers.LeakyReLU(), False),
        (layers.Activation("tanh"), False),
        (layers.Dense(4, activation=layers.ReLU()), True),
        (layers.Dense(4, activation=keras.activations.relu6), True),
    ],
    ids=str,
)
def test_rectifiers_without_slope_and_threshold_are_replaced(layer, is_replaced):
    plain = keras.Sequential([keras.Input((4,)), layers.Dense(4), layer])
    model = tfl.sparsify(plain)
    if is_replaced:
        x = np.linspace(-9, 9, 20, dtype="float32").reshape(5, 4)
        before = outputs(model, x)
        tfl.retrain.soft_activations(model)
        assert np.abs(outputs(model, x) - before).max() > 1e-3
    else:
        with pytest.raises(ValueError, match="must have rectifiers.*Received: 'sparse_seq"):
            tfl.retrain.soft_activations(model)


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.SimpleRNN(4, activation="relu"),
        lambda: layers.Bidirectional(layers.SimpleRNN(4, activation="relu")),
        lambda: layers.TimeDistributed(layers.Dense(4, activation="relu")),
    ],
)
def test_rectifiers_inside_of_other_layers_are_replaced(make):
    plain = keras.Sequential([keras.Input((5, 3)), make()])
    model, x = tfl.sparsify(plain), np.random.default_rng(0).normal(size=(2, 5, 3))
    before = outputs(model, x)
    tfl.retrain.soft_activations(model)
    assert np.abs(outputs(model, x) - before).max() > 1e-3
    np.testing.assert_array_equal(outputs(plain, x), before)


def test_model_is_left_alone_if_a_call_fails(sparse):
    tfl.retrain.soft_activations(sparse)
    with pytest.raises(ValueError):
        sparse(np.zeros((1, 6, 6, 5), "float32"))
    stem, relu = sparse.model.get_layer("stem"), sparse.model.get_layer("first_relu")
    assert stem.activation is keras.activations.relu and "call" not in vars(relu)


def test_compiled_functions_are_made_anew(make_model, make_data, compile_model):
    x, y = make_data()
    model = compile_model(tfl.sparsify(make_model()), run_eagerly=False)
    model.fit(x, y, verbose=0)
    before = model.predict(x, verbose=0)
    tfl.retrain.soft_activations(model)
    assert np.abs(model.predict(x, verbose=0) - before).max() > 1e-3
    tfl.retrain.remove_soft_activations(model)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    model.fit(x, y, verbose=0)


@pytest.mark.parametrize("beta", [None, 3.0])
def test_activation_that_is_not_annealed_stays_in_the_stripped_model(
    beta, sparse, images, tmp_path
):
    tfl.retrain.soft_activations(sparse, "swish", beta)
    expected = outputs(sparse, images[0])
    plain = tfl.strip(sparse)
    np.testing.assert_allclose(outputs(plain, images[0]), expected, atol=1e-6)
    plain.save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    np.testing.assert_array_equal(outputs(loaded, images[0]), outputs(plain, images[0]))
    assert (loaded.get_layer("stem").activation is keras.activations.silu) == (beta is None)
    np.testing.assert_array_equal(outputs(sparse, images[0]), expected)


def test_loaded_model_gets_its_rectifiers_back(sparse, images, fade, tmp_path):
    before = outputs(sparse, images[0])
    tfl.retrain.soft_activations(sparse, "mish")
    tfl.strip(sparse)
    sparse.save(tmp_path / "sparse.keras")
    for model in (sparse, keras.saving.load_model(tmp_path / "sparse.keras")):
        fade(model)
        plain = tfl.strip(model)
        np.testing.assert_array_equal(outputs(plain, images[0]), before)
        assert type(plain.get_layer("first_relu")) is layers.ReLU
        assert plain.get_layer("stem").activation is keras.activations.relu
        assert plain.get_layer("third_relu").activation is keras.activations.relu6


def test_wrong_arguments_are_named(sparse, make_residual):
    with pytest.raises(ValueError, match="`activation` must be one of .*activation='swi'"):
        tfl.retrain.soft_activations(sparse, "swi")
    with pytest.raises(ValueError, match="`beta` must be a number > 0. Received: beta=0"):
        tfl.retrain.soft_activations(sparse, beta=0)
    with pytest.raises(ValueError, match="must be a `SparseModel`"):
        tfl.retrain.soft_activations(make_residual())
    tfl.retrain.soft_activations(sparse)
    with pytest.raises(ValueError, match="must not have soft activations yet"):
        tfl.retrain.soft_activations(sparse)


@pytest.mark.parametrize("name", ALL)
def test_half_precision_does_not_overflow(name):
    x = np.array([-300.0, -1.0, 0.0, 1.0, 300.0], "float16")
    found = ops.convert_to_numpy(SoftActivation(name, 2000.0)(ops.convert_to_tensor(x)))
    assert found.dtype == "float16"
    np.testing.assert_allclose(found, np.maximum(x, 0), atol=1e-3)


def test_rectifiers_are_back_after_removal_even_if_stripped_before(sparse, images):
    before = outputs(sparse, images[0])
    tfl.retrain.soft_activations(sparse)
    plain = tfl.strip(sparse)
    tfl.retrain.remove_soft_activations(sparse)
    np.testing.assert_array_equal(outputs(plain, images[0]), before)
    np.testing.assert_array_equal(outputs(sparse, images[0]), before)


def test_layers_are_left_alone_if_the_model_cannot_be_stripped(sparse):
    tfl.retrain.soft_activations(sparse)
    tfl.retrain.ghost_skips(sparse)
    with pytest.raises(ValueError, match="ghost skips"):
        tfl.strip(sparse)
    assert sparse.model.get_layer("stem").activation is keras.activations.relu


class Shifted(layers.ReLU):
    """A rectifier with its own `call`."""

    def call(self, inputs, training=None):
        return super().call(inputs) + 1.0


class Unhashable:
    """An activation that is not hashable."""

    __hash__ = None

    def __eq__(self, other):
        return self is other

    def __call__(self, x):
        return ops.relu(x)


def test_layers_and_functions_of_others_are_not_replaced():
    plain = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, activation=Unhashable()), Shifted(), layers.ReLU()]
    )
    tweak = tfl.retrain.soft_activations(tfl.sparsify(plain))
    assert tweak.layer_names == [plain.layers[-1].name]


def test_units_can_be_compacted_with_any_soft_activation():
    plain = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, activation="relu"), layers.Dense(2)]
    )
    kernel, bias, *others = plain.get_weights()
    kernel[:, 3:] = 0
    plain.set_weights([kernel, bias, *others])
    model = tfl.sparsify(plain)
    tfl.retrain.soft_activations(model, "pswish")
    small, _ = tfl.compact(model)
    assert small.count_params() == 4 * 3 + 3 + 3 * 2 + 2


@pytest.mark.parametrize("precision", ["mixed_float16"], indirect=True)
def test_half_precision_stays_finite_just_before_the_end(precision, images):
    plain = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(2, 3), layers.ReLU()])
    model = tfl.sparsify(plain)
    tfl.retrain.soft_activations(model).softness.assign(1e-7)
    for x in (images[0], 0 * images[0]):
        expected = np.maximum(outputs(plain.layers[0], x), 0)
        np.testing.assert_allclose(outputs(model, x), expected, atol=1e-3)
        np.testing.assert_allclose(outputs(tfl.strip(model), x), expected, atol=1e-3)
