"""Tests with small linear networks, for which NumPy derives all expected values."""

import itertools
import json

import keras
import numpy as np
import pytest
from keras import layers, ops

import tf_lottery as tfl
from tf_lottery._keras import all_layers
from tf_lottery.retrain import rescaled_initialization

SHAPES = [(3, 4), (4,), (4, 2)]
MASKS = [
    np.array([[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 0, 1]], bool),
    np.ones(4, bool),
    np.array([[1, 0], [0, 1], [1, 1], [0, 1]], bool),
]


def initial_weights():
    rng = np.random.default_rng(3)
    return [rng.normal(size=shape) * mask for shape, mask in zip(SHAPES, MASKS, strict=True)]


def make_batches(count, seed=4):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(5, 3)), rng.normal(size=(5, 2))) for _ in range(count)]


@pytest.fixture
def sparse():
    """A linear net `(x @ a + c) @ b` with masks, a bias and arbitrary pruned weights."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, name="hidden"),
            layers.Dense(2, use_bias=False, name="output"),
        ]
    )
    sparse = tfl.sparsify(model)
    masks = dict(zip(sparse.kernels, [MASKS[0], MASKS[2]], strict=True))
    sparse.set_masks(masks)
    for weight, value, mask in zip(model.weights, initial_weights(), MASKS, strict=True):
        weight.assign(np.where(mask, value, 7.0))
    sparse.compile(keras.optimizers.Adam(), "mse")
    return sparse


def loss_and_gradient(weights, batches):
    """Returns the mean squared error, averaged over batches, and its masked gradient."""
    a, c, b = weights
    loss, gradient = 0, [np.zeros(shape) for shape in SHAPES]
    for x, y in batches:
        hidden = x @ a + c
        error = hidden @ b - y
        slope = 2 * error / error.size / len(batches)
        loss += np.mean(error**2) / len(batches)
        parts = (x.T @ slope @ b.T, (slope @ b.T).sum(0), hidden.T @ slope)
        gradient = [g + part * mask for g, part, mask in zip(gradient, parts, MASKS, strict=True)]
    return loss, gradient


def norm_of(arrays):
    return np.sqrt(sum(np.sum(array**2) for array in arrays))


def scaled(scales, weights):
    return [scale * weight for scale, weight in zip(scales, weights, strict=True)]


def step(weights, batches, size):
    """Returns the weights after a gradient descent step of the given length."""
    _, gradient = loss_and_gradient(weights, batches)
    norm = norm_of(gradient)
    return [w - size * g / norm for w, g in zip(weights, gradient, strict=True)]


def gradinit(batches, iterations, rate, size, limit, least):
    """Returns the scales after each iteration, by the paper's formulas and finite differences."""
    weights, batches = initial_weights(), itertools.cycle(batches)
    scales, first, second = np.ones(3), {True: np.zeros(3), False: np.zeros(3)}, np.zeros(3)
    steps, kinds = {True: 0, False: 0}, []
    for total in range(1, iterations + 1):
        pair = [next(batches), next(batches)]
        _, gradient = loss_and_gradient(scaled(scales, weights), pair)
        reduces = bool(norm_of(gradient) > limit)
        if reduces:
            slopes = np.zeros(3)
            for i, shift in enumerate(1e-5 * np.eye(3)):
                ends = [
                    norm_of(loss_and_gradient(scaled(moved, weights), pair)[1])
                    for moved in (scales + shift, scales - shift)
                ]
                slopes[i] = (ends[0] - ends[1]) / 2e-5
        else:
            ahead = step(scaled(scales, weights), pair, size)
            _, gradient = loss_and_gradient(ahead, [pair[0], next(batches)])
            slopes = np.array(
                [np.sum(g * w) / size for g, w in zip(gradient, weights, strict=True)]
            )
        slopes = np.clip(slopes, -1, 1)
        kinds.append(reduces)
        steps[reduces] += 1
        first[reduces] = 0.9 * first[reduces] + 0.1 * slopes
        second = 0.999 * second + 0.001 * slopes**2
        mean = first[reduces] / (1 - 0.9 ** steps[reduces])
        scales = scales - rate * mean / (np.sqrt(second / (1 - 0.999**total)) + 1e-8)
        scales = np.maximum(scales, [least, 0, least])
    return scales, kinds


@pytest.mark.parametrize(
    "iterations, limit, rate", [(1, 1e9, 0.01), (1, 1e-9, 0.01), (12, 3.3, 0.05)]
)
def test_updates_are_those_of_the_paper(iterations, limit, rate, sparse):
    batches = make_batches(7)
    expected, kinds = gradinit(batches, iterations, rate, 0.1, limit, 0.01)
    assert iterations == 1 or 2 < sum(kinds) < 10
    report = rescaled_initialization(
        sparse,
        batches,
        iterations=iterations,
        learning_rate=rate,
        max_gradient_norm=limit,
    )
    np.testing.assert_allclose(list(report.scales.values()), expected, rtol=1e-4)
    assert [loss is None for loss in report.history["one_step_loss"]] == kinds
    values = scaled(expected, initial_weights())
    for weight, value, mask in zip(sparse.model.weights, values, MASKS, strict=True):
        np.testing.assert_allclose(weight, value, rtol=1e-4)
        np.testing.assert_array_equal(np.asarray(weight)[~mask], 0)


def test_the_loss_after_one_step_goes_down(sparse):
    batches = make_batches(3)

    def one_step_loss():
        weights = [ops.convert_to_numpy(w).astype("float64") for w in sparse.model.weights]
        weights = [weight * mask for weight, mask in zip(weights, MASKS, strict=True)]
        norm = norm_of(loss_and_gradient(weights, batches[:2])[1])
        ahead = step(weights, batches[:2], 0.1)
        return loss_and_gradient(ahead, [batches[0], batches[2]])[0], norm

    before = one_step_loss()
    report = rescaled_initialization(sparse, batches, iterations=60)
    after = one_step_loss()
    assert after[0] < 0.8 * before[0]
    assert after[1] < before[1]
    measured = np.transpose([report.one_step_loss, report.gradient_norm])
    np.testing.assert_allclose(measured, [before, after], rtol=1e-4)
    assert report.history["gradient_norm"][0] == report.gradient_norm[0]


def test_smallest_scales(sparse):
    """Zero targets make all weights shrink: kernels to the lower bound, the bias to zero."""
    batches = [(x, np.zeros_like(y)) for x, y in make_batches(3)]
    options = {"learning_rate": 0.5, "max_gradient_norm": 1e9, "iterations": 4}
    scales = rescaled_initialization(sparse, batches, min_scale=0.3, **options).scales
    assert min(scales.values()) == 0
    assert scales[sparse.model.layers[0].bias.path] == 0
    np.testing.assert_array_equal(sparse.model.layers[0].bias, np.zeros(4))
    assert [scales[path] for path in sparse.kernels] == [0.3, 0.3]


def test_the_length_of_the_step(sparse):
    batches = make_batches(3)
    weights = initial_weights()
    report = rescaled_initialization(sparse, batches, iterations=1, step_size=0.7)
    expected = loss_and_gradient(step(weights, batches[:2], 0.7), [batches[0], batches[2]])[0]
    assert report.one_step_loss[0] == pytest.approx(expected, rel=1e-4)


def state(model):
    """Returns all variables of a model and its optimizer except the trainable weights."""
    trainable = {id(variable) for variable in model.model.trainable_weights}
    variables = [
        v for v in (*model.variables, *model.optimizer.variables) if id(v) not in trainable
    ]
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def with_dropout_in_time():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.SimpleRNN(4, dropout=0.5, recurrent_dropout=0.5)(layers.Embedding(11, 4)(inputs))
    return keras.Model(inputs, layers.Dense(3)(x))


@pytest.mark.parametrize("kind", ["nested", "recurrent", "subclassed", "dict_inputs"])
def test_every_model_is_left_as_it_was_but_for_scales(kind, make_model, make_data, compile_model):
    plain = with_dropout_in_time() if kind == "recurrent" else make_model(kind)
    model = compile_model(tfl.sparsify(plain, sparsity=0.5))
    model.optimizer.build(model.trainable_variables)
    masks, before = model.get_masks(), state(model)
    weights = model.model.trainable_weights
    values = [np.array(ops.convert_to_numpy(weight)) for weight in weights]
    sublayers = all_layers(model.model)
    settings = [(layer.dtype_policy, vars(layer).get("call")) for layer in sublayers]
    report = rescaled_initialization(model, make_data(kind), iterations=2, max_gradient_norm=1e-6)
    assert report.history["one_step_loss"] == [None, None]
    assert report.gradient_norm[1] < report.gradient_norm[0]
    paths = [path for path in (weight.path for weight in weights) if path not in report.skipped]
    assert list(report.scales) == paths and any("kernel" in path for path in paths)
    for weight, value in zip(weights, values, strict=True):
        if weight.path in report.skipped:
            assert not np.any(value)
        expected = value * np.float32(report.scales.get(weight.path, 1.0))
        np.testing.assert_allclose(weight, expected, rtol=1e-6)
        assert report.scales.get(weight.path, 0.0) != 1.0
    for path, mask in masks.items():
        np.testing.assert_array_equal(np.asarray(model.kernels[path])[~mask], 0)
    for value, unchanged in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(value, unchanged)
    assert [(layer.dtype_policy, vars(layer).get("call")) for layer in sublayers] == settings
    if kind == "subclassed":
        assert np.isfinite(model.train_on_batch(*make_data(kind)))


def test_weights_that_are_all_zeros_are_left_out(sparse):
    hidden, output = sparse.model.layers
    hidden.bias.assign(np.zeros(4))
    report = rescaled_initialization(sparse, make_batches(3), iterations=2)
    assert list(report.scales) == list(sparse.kernels)
    assert report.skipped == [hidden.bias.path]
    np.testing.assert_array_equal(hidden.bias, np.zeros(4))
    sparse.set_masks({output.kernel.path: np.zeros((4, 2), bool)})
    report = rescaled_initialization(sparse, make_batches(3), iterations=2)
    assert report.skipped == [hidden.bias.path, output.kernel.path]


@pytest.fixture
def subclassed_run(make_model, make_data, compile_model):
    """Returns a function of batches that returns scales and losses of a new model with dropout."""
    x, y = make_data("subclassed")
    batches = [(x[i : i + 6], y[i : i + 6]) for i in range(0, 24, 6)]

    def run(choose=lambda batches: batches, run_eagerly=False, **kwargs):
        model = tfl.sparsify(make_model("subclassed"), sparsity=0.5)
        compile_model(model, run_eagerly=run_eagerly)
        report = rescaled_initialization(
            model, choose(batches), iterations=2, max_gradient_norm=9.0, **kwargs
        )
        return [*report.scales.values(), *report.history["one_step_loss"]]

    return run


def test_same_batches_same_scales(subclassed_run):
    first = subclassed_run()
    assert first == subclassed_run()
    assert first == subclassed_run(iter)
    assert first == subclassed_run(itertools.cycle)


def test_fewer_batches_come_again(subclassed_run):
    two = subclassed_run(lambda batches: batches[:2])
    assert two != subclassed_run()
    assert two == subclassed_run(steps=2)
    assert two == subclassed_run(iter, steps=2)
    assert subclassed_run(lambda batches: batches[0]) == subclassed_run(steps=1) != two


def test_models_that_run_eagerly(subclassed_run):
    np.testing.assert_allclose(subclassed_run(run_eagerly=True), subclassed_run(), rtol=1e-5)


def test_endless_datasets(sparse):
    tf = pytest.importorskip("tensorflow")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(2).repeat()
    report = rescaled_initialization(sparse, data, iterations=2)
    assert len(report.history["gradient_norm"]) == 2


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_does_not_change_scales(
    policy, make_model, make_data, compile_model, request
):
    before = keras.config.dtype_policy()
    request.addfinalizer(lambda: keras.config.set_dtype_policy(before))
    scales = []
    for name in ("float32", policy):
        keras.config.set_dtype_policy(name)
        model = compile_model(tfl.sparsify(make_model("subclassed"), sparsity=0.5))
        report = rescaled_initialization(model, make_data("subclassed"), iterations=2)
        scales.append(list(report.scales.values()))
        assert model.model.hidden.compute_dtype == policy.removeprefix("mixed_") or not scales[1:]
    np.testing.assert_allclose(scales[1], scales[0], rtol=1e-6)


def test_batches_are_normalized_by_their_own_statistics_and_dropout_is_off():
    def losses(rate, mean, trainable=True):
        inputs = keras.Input((3,))
        norm = layers.BatchNormalization(trainable=trainable)
        x = layers.Dropout(rate)(norm(inputs))
        output = layers.Dense(2, kernel_initializer=keras.initializers.HeNormal(seed=1))
        model = tfl.sparsify(keras.Model(inputs, output(x)), sparsity=0.25)
        norm.moving_mean.assign(np.full(3, mean))
        report = rescaled_initialization(model, make_batches(3), "mse", iterations=2)
        np.testing.assert_array_equal(norm.moving_mean, np.full(3, mean))
        return report.one_step_loss

    expected = losses(0.0, 0.0)
    np.testing.assert_allclose(losses(0.5, 3.0), expected, rtol=1e-5)
    # Keras runs a frozen layer in inference mode, as fine-tuning needs.
    assert losses(0.0, 3.0, trainable=False)[0] > 2 * expected[0]


def test_frozen_kernels_are_masked_and_stay(sparse):
    clean = tfl.sparsify(keras.models.clone_model(sparse.model))
    clean.set_masks(dict(zip(clean.kernels, sparse.get_masks().values(), strict=True)))
    for weight, value in zip(clean.model.weights, initial_weights(), strict=True):
        weight.assign(value)
    scales = []
    for model in (sparse, clean):
        model.model.layers[0].trainable = False
        kernel = np.array(ops.convert_to_numpy(model.model.layers[0].kernel))
        report = rescaled_initialization(model, make_batches(3), "mse", iterations=2)
        [scale] = report.scales.values()
        scales.append(scale)
        np.testing.assert_array_equal(model.model.layers[0].kernel, kernel)
    assert scales[0] == scales[1] != 1


def test_settled_gates(make_model, make_data, compile_model):
    model = tfl.sparsify(make_model(), gate=tfl.SoftGate())
    rng = np.random.default_rng(0)
    model.set_masks({path: rng.random(k.shape) < 0.5 for path, k in model.kernels.items()})
    before = model.get_kernels()
    report = rescaled_initialization(compile_model(model), make_data(), iterations=2)
    for path, kernel in model.get_kernels().items():
        np.testing.assert_allclose(kernel, before[path] * report.scales[path], rtol=1e-6)


def test_the_report(sparse):
    report = rescaled_initialization(sparse, make_batches(4), iterations=3, max_gradient_norm=3.3)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["scales"] == report.scales
    assert plain["one_step_loss"] == list(report.one_step_loss)
    assert plain["gradient_norm"] == list(report.gradient_norm)
    assert plain["history"] == report.history
    assert plain["skipped"] == []
    text = str(report)
    for path, scale in report.scales.items():
        assert path in text and f"{scale:.4f}" in text
    assert f"{report.one_step_loss[0]:.4g}" in text
    assert "3 iterations, " in text


@pytest.mark.parametrize(
    "name, value",
    [
        ("iterations", 0),
        ("learning_rate", 0),
        ("step_size", -1.0),
        ("max_gradient_norm", "1"),
        ("min_scale", -0.1),
        ("steps", 0),
    ],
)
def test_arguments_outside_their_range(name, value, sparse):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}="):
        rescaled_initialization(sparse, make_batches(1), **{name: value})


def test_models_and_batches_that_do_not_fit(sparse, linear_zeros):
    batches = make_batches(1)
    with pytest.raises(ValueError, match="`model` must be a `SparseModel`"):
        rescaled_initialization(sparse.model, batches)
    with pytest.raises(ValueError, match="`loss` must be given.*not compiled"):
        rescaled_initialization(tfl.sparsify(tfl.strip(sparse)), batches)
    with pytest.raises(ValueError, match="`batches` must not be empty"):
        rescaled_initialization(sparse, [])
    with pytest.raises(ValueError, match="`model` must have trainable weights that are not zero"):
        rescaled_initialization(linear_zeros, batches, "mse")


@pytest.fixture
def linear_zeros():
    layer = layers.Dense(2, kernel_initializer="zeros")
    return tfl.sparsify(keras.Sequential([keras.Input((3,)), layer]))


def test_numbers_that_are_not_finite_are_refused(sparse):
    before = [np.array(ops.convert_to_numpy(weight)) for weight in sparse.model.weights]
    batches = make_batches(3)
    batches[1][0][0, 0] = np.nan
    with pytest.raises(ValueError, match="must be finite numbers.*Received: nan"):
        rescaled_initialization(sparse, batches, iterations=2)
    for weight, value in zip(sparse.model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
