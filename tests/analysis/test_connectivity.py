import dataclasses
import itertools

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.analysis.connectivity import Connectivity, interpolate


def perturbed(model, seed, scale=0.3):
    """Returns the model's weights by path, with noise that keeps statistics positive."""
    rng = np.random.default_rng(seed)
    return {
        path: value + (scale * rng.normal(size=value.shape)).astype(value.dtype)
        for path, value in tfl.Snapshot(model).weights.items()
        if value.dtype.kind == "f"
    }


def state(model):
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]


def assert_same_state(model, before):
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def cross_entropy(logits, y):
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    return float(-np.log(probabilities[np.arange(len(y)), y]).mean())


def named(arrays):
    """Returns arrays by their paths without the name of the model."""
    return {"/".join(path.split("/")[-2:]): array for path, array in arrays.items()}


def forward(weights, x):
    weights = named(weights)
    hidden = np.maximum(x @ weights["hidden/kernel"] + weights["hidden/bias"], 0)
    return hidden @ weights["output/kernel"] + weights["output/bias"]


@pytest.mark.parametrize("sparse", [False, True])
def test_losses_and_errors_equal_numpy(make_model, make_data, compile_model, sparse):
    model = compile_model(tfl.sparsify(make_model(), sparsity=0.5) if sparse else make_model())
    masks = model.get_masks() if sparse else {}
    first, second = perturbed(model, 1), perturbed(model, 2)
    x, y = make_data()
    result = interpolate(model, first, second, (x, y), points=5)
    assert result.alphas == [0.0, 0.25, 0.5, 0.75, 1.0]
    for alpha, loss, error in zip(result.alphas, result.losses, result.errors, strict=True):
        mixed = {p: alpha * first[p] + (1 - alpha) * second[p] for p in first}
        logits = forward({p: w * masks.get(p, 1) for p, w in mixed.items()}, x)
        assert loss == pytest.approx(cross_entropy(logits, y), rel=1e-4)
        assert error == pytest.approx(np.mean(logits.argmax(axis=1) != y), abs=1e-6)


def test_barriers():
    result = Connectivity([0.0, 0.5, 1.0], [1.0, 4.0, 2.0], [0.1, 0.125, 0.12])
    assert result.barrier_loss == 2.5
    assert result.barrier_error == pytest.approx(0.015)
    assert result.is_stable
    unstable = dataclasses.replace(result, errors=[0.1, 0.14, 0.12])
    assert not unstable.is_stable
    assert Connectivity([0.0, 1.0], [2.0, 1.0]).barrier_loss == 0.5
    assert Connectivity([0.0, 1.0], [2.0, 1.0]).barrier_error is None
    assert Connectivity([0.0, 1.0], [2.0, 1.0]).is_stable is None


def test_diverged_networks_are_not_stable():
    nan = float("nan")
    result = Connectivity([0.0, 0.5, 1.0], [1.0, nan, 1.0], [0.1, nan, 0.1])
    assert not result.is_stable and np.isnan(result.barrier_loss)


def test_prints_a_table_and_gives_plain_numbers():
    result = Connectivity([0.0, 0.5, 1.0], [1.0, 4.0, 2.0], [0.1, 0.5, 0.12])
    text = str(result)
    assert "barrier of the loss is 2.5000, of the error 39.00%: not stable" in text
    assert "0.500 │ 4.0000 │ 50.00%" in text
    assert result.to_dict() == {
        "alphas": [0.0, 0.5, 1.0],
        "losses": [1.0, 4.0, 2.0],
        "errors": [0.1, 0.5, 0.12],
        "barrier_loss": 2.5,
        "barrier_error": pytest.approx(0.39),
    }
    assert "of the error" not in str(Connectivity([0.0, 1.0], [2.0, 1.0]))


@pytest.mark.parametrize("kind", ["nested", "subclassed"])
def test_leaves_the_model_as_it_was(make_model, make_data, compile_model, kind):
    model = compile_model(tfl.sparsify(make_model(kind), sparsity=0.5))
    x, y = make_data(kind)
    model.fit(x, y, batch_size=8, verbose=0)
    before, slots = state(model), [np.array(v) for v in model.optimizer.variables]
    ends = perturbed(model, 1, 0.01), perturbed(model, 2, 0.01)
    batches = [(x, y)] if kind == "nested" else None
    result = interpolate(model, *ends, (x, y), points=3, batches=batches)
    assert np.isfinite(result.losses).all()
    assert len(set(result.losses)) == 3
    assert_same_state(model, before)
    for variable, value in zip(model.optimizer.variables, slots, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_leaves_the_model_as_it_was_after_an_error(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model(), sparsity=0.5))
    before = state(model)
    with pytest.raises(ValueError, match="`accuracy` must be .*'accuracy'.*Received: .*'top'"):
        interpolate(model, model, perturbed(model, 1), make_data(), accuracy="top")
    for variable, value in zip(model.variables, before, strict=False):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def test_ends_are_the_networks_to_the_last_bit(make_model, make_data, compile_model):
    data = make_data()
    networks = []
    for seed in range(2):
        model = compile_model(tfl.sparsify(make_model(), sparsity=0.5))
        model.fit(*data, epochs=1 + seed, batch_size=8, verbose=0)
        networks.append(model)
    model = compile_model(tfl.sparsify(make_model()))
    result = interpolate(model, *networks, data, points=3)
    for index, network in ((2, networks[0]), (0, networks[1])):
        expected = network.evaluate(*data, verbose=0, return_dict=True)
        assert result.losses[index] == pytest.approx(expected["loss"], rel=1e-6)
        assert result.errors[index] == pytest.approx(1 - expected["accuracy"], abs=1e-6)


def test_forms_of_an_end_agree(make_model, make_data, compile_model):
    data = make_data()
    model = compile_model(tfl.sparsify(make_model(), sparsity=0.5))
    other = compile_model(tfl.sparsify(make_model(), sparsity=0.7))
    other.fit(*data, batch_size=8, verbose=0)
    # Pruned weights, which a ticket also has, have no effect.
    hidden = named(other.kernels)["hidden/kernel"]
    mask = named(other.get_masks())["hidden/kernel"]
    hidden.assign(np.where(mask, hidden, 7.0))
    forms = {
        "snapshot": tfl.Snapshot(other),
        "ticket": tfl.Ticket.from_model(other),
        "model": other,
        "dict": {
            path: weight * other.get_masks().get(path, 1)
            for path, weight in tfl.Snapshot(other).weights.items()
        },
    }
    model.set_masks({path: np.ones(m.shape, bool) for path, m in model.get_masks().items()})
    losses = {
        name: interpolate(model, end, model, data, points=3).losses for name, end in forms.items()
    }
    expected = other.evaluate(*data, verbose=0, return_dict=True)["loss"]
    for found in losses.values():
        assert found[-1] == pytest.approx(expected, rel=1e-6)
        assert found == losses["model"]


def test_plain_model_between_sparse_ones(make_model, make_data, compile_model):
    data, plain = make_data(), compile_model(make_model())
    sparse = compile_model(tfl.sparsify(make_model(), sparsity=0.7))
    kernel = list(sparse.kernels.values())[0]
    kernel.assign(np.full(kernel.shape, 0.1))
    expected = sparse.evaluate(*data, verbose=0, return_dict=True)["loss"]
    for end in (sparse, tfl.Ticket.from_model(sparse)):
        found = interpolate(plain, end, plain, data, points=2)
        assert found.losses[-1] == pytest.approx(expected, rel=1e-6)


def test_masks_of_the_model_hold_for_weights_without_masks(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model(), sparsity=0.5))
    end = perturbed(model, 1)
    zeroed = {path: weight * model.get_masks().get(path, 1) for path, weight in end.items()}
    found = [interpolate(model, w, model, make_data(), points=3).losses for w in (end, zeroed)]
    assert found[0] == found[1]


def test_networks_with_different_masks(make_model, make_data, compile_model):
    first, second = (
        compile_model(tfl.sparsify(make_model(), 0.5, scores="random", seed=seed))
        for seed in (1, 2)
    )
    data = make_data()
    result = interpolate(first, first, second, data, points=3)
    kernels = zip(*(model.get_kernels().values() for model in (first, second)), strict=True)
    middle = compile_model(make_model())
    for layer, (one, other) in zip(middle.layers, kernels, strict=True):
        assert ((one == 0) != (other == 0)).any()
        layer.kernel.assign((one + other) / 2)
    expected = middle.evaluate(*data, verbose=0, return_dict=True)["loss"]
    assert result.losses[1] == pytest.approx(expected, rel=1e-6)


def test_paths_of_a_model_built_again(make_data, compile_model):
    def build():
        return keras.Sequential([keras.Input((6,)), layers.Dense(4, "relu"), layers.Dense(3)])

    model, other = compile_model(tfl.sparsify(build())), tfl.sparsify(build(), sparsity=0.5)
    assert list(model.kernels) != list(other.kernels)
    data = make_data()
    found = [
        interpolate(model, end, model, data, points=3).losses
        for end in (other, tfl.Snapshot(other), tfl.Ticket.from_model(other))
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"], indirect=True)
def test_mixed_precision(make_model, make_data, compile_model, precision):
    model = compile_model(tfl.sparsify(make_model("nested"), sparsity=0.5))
    data = make_data("nested")
    before = state(model)
    ends = perturbed(model, 1, 0.01), perturbed(model, 2, 0.01)
    result = interpolate(model, *ends, data, points=3, batches=data)
    assert np.isfinite(result.losses).all()
    for variable, value in zip(model.variables, before, strict=False):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def test_statistics_are_measured_at_every_point(make_data, compile_model):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(3, use_bias=False, name="dense"),
            layers.BatchNormalization(scale=False, center=False, epsilon=1e-3),
        ]
    )
    sparse = compile_model(tfl.sparsify(model, sparsity=0.5))
    mask = named(sparse.get_masks())["dense/kernel"]
    x, y = make_data()
    train, _ = make_data(size=40)
    first, second = (
        {path: np.abs(w) for path, w in perturbed(sparse, seed, 1.0).items()} for seed in (1, 2)
    )
    result = interpolate(sparse, first, second, (x, y), points=3, batches=(train, np.zeros(40)))
    for alpha, loss in zip(result.alphas, result.losses, strict=True):
        one, other = (named(end)["dense/kernel"] for end in (first, second))
        kernel = mask * (alpha * one + (1 - alpha) * other)
        hidden = train @ kernel
        logits = (x @ kernel - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + 1e-3)
        assert loss == pytest.approx(cross_entropy(logits, y), rel=1e-4)
    few = [(train[:10], None), (train[10:], None)]
    assert (
        interpolate(sparse, first, second, (x, y), points=3, batches=few, steps=1).losses
        != result.losses
    )
    forever = itertools.repeat((train, np.zeros(40)))
    again = interpolate(sparse, first, second, (x, y), points=3, batches=forever, steps=1)
    assert again.losses == pytest.approx(result.losses, rel=1e-6)


@pytest.mark.backend
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch compiles nothing here")
def test_compiles_once_for_all_points(make_model, make_data):
    traces = []

    def loss(y, y_pred):
        traces.append(1)
        return keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)

    model = tfl.sparsify(make_model())
    model.compile("adam", loss)
    counts = []
    for points in (2, 9):
        interpolate(model, perturbed(model, 1), perturbed(model, 2), make_data(), points=points)
        counts.append(len(traces))
    assert counts[0] == counts[1]


def test_statistics_compile_once(make_data, compile_model):
    traces = []

    @keras.saving.register_keras_serializable("tests")
    class Watched(layers.Layer):
        def call(self, inputs):
            traces.append(1)
            return inputs

    model = keras.Sequential(
        [keras.Input((6,)), Watched(), layers.Dense(3), layers.BatchNormalization()]
    )
    model = compile_model(model, run_eagerly=False)
    data, counts = make_data(), []
    ends = perturbed(model, 1, 0.01), perturbed(model, 2, 0.01)
    for points in (2, 9):
        before = len(traces)
        interpolate(model, *ends, data, points=points, batches=data)
        counts.append(len(traces) - before)
    # The second call compiles only its own statistics, not the evaluation.
    assert counts[0] >= counts[1] and counts[1] <= 2


def test_data_sets_and_sample_weights(make_model, make_data, compile_model):
    class Batches(keras.utils.PyDataset):
        def __init__(self, *arrays):
            super().__init__()
            self.arrays = arrays

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return tuple(array[8 * index : 8 * index + 8] for array in self.arrays)

    model = compile_model(tfl.sparsify(make_model()))
    x, y = make_data()
    weights = np.where(np.arange(24) < 8, 1.0, 0.0).astype("float32")
    ends = perturbed(model, 1), perturbed(model, 2)
    arrays = interpolate(model, *ends, (x, y), points=3, batch_size=8)
    batches = interpolate(model, *ends, Batches(x, y), points=3)
    assert batches.losses == pytest.approx(arrays.losses, rel=1e-6)
    weighted = interpolate(model, *ends, (x, y, weights), points=3)
    third = interpolate(model, *ends, (x[:8], y[:8]), points=3)
    assert weighted.losses == pytest.approx([loss / 3 for loss in third.losses], rel=1e-5)


def test_metric_of_the_error(make_model, make_data):
    model = tfl.sparsify(make_model())
    top = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top")
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[top, keras.metrics.SparseCategoricalAccuracy(name="my_acc")],
    )
    ends = perturbed(model, 1), perturbed(model, 2)
    default = interpolate(model, *ends, make_data(), points=3)
    assert (
        default.errors == interpolate(model, *ends, make_data(), points=3, accuracy="my_acc").errors
    )
    chosen = interpolate(model, *ends, make_data(), points=3, accuracy="top")
    assert chosen.errors[1] < default.errors[1]


def test_without_accuracy(make_model, make_data):
    model = tfl.sparsify(make_model())
    model.compile("adam", "mse")
    ends = perturbed(model, 1), perturbed(model, 2)
    assert interpolate(model, *ends, (make_data()[0], np.zeros((24, 3))), points=3).errors is None


def test_settled_gates(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model(), gate=tfl.SoftGate()))
    with pytest.raises(ValueError, match="`model` must not have soft gates"):
        interpolate(model, model, model, make_data())
    masks = {
        path: np.arange(m.size).reshape(m.shape) % 2 == 0 for path, m in model.get_masks().items()
    }
    model.set_masks(masks)
    before = state(model)
    loss = model.evaluate(*make_data(), verbose=0, return_dict=True)["loss"]
    result = interpolate(model, model, tfl.Snapshot(model), make_data(), points=2)
    assert result.losses == pytest.approx([loss, loss], rel=1e-6)
    for variable, value in zip(model.variables, before, strict=False):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": 1}, "`points` must be an integer >= 2. Received: points=1"),
        ({"points": 2.0}, "`points` must be an integer > 0. Received: points=2.0"),
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"first": {}}, "`first` must be a `Snapshot`, .* Received: dict"),
        ({"second": 3}, "`second` must be a `Snapshot`, .* Received: int"),
        ({"second": {"a": np.ones(2)}}, r"`second` must have all weights .* matched are \['a'\]"),
        ({"data": [1, 2]}, "`data` must be a tuple of arrays .*Received: list of 2"),
        ({"data": iter([])}, "`data` must be .* read repeatedly. Received: list_iterator"),
        ({"data": (1,)}, "Received: tuple of 1"),
    ],
)
def test_wrong_arguments(make_model, make_data, compile_model, arguments, message):
    model = compile_model(tfl.sparsify(make_model()))
    defaults = {"first": model, "second": model, "data": make_data()}
    with pytest.raises(ValueError, match=message):
        interpolate(model, **{**defaults, **arguments})


def test_model_that_cannot_be_evaluated(make_model, make_data, compile_model):
    model = make_model()
    with pytest.raises(ValueError, match="`model` must be a built Keras .*Received"):
        interpolate(model, model, model, make_data())
    nested = compile_model(make_model("nested"))
    with pytest.raises(ValueError, match="`batches` must be training examples.*=None"):
        interpolate(nested, nested, nested, make_data("nested"))
