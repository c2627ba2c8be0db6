import json

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.analysis.sensitivity_report import KernelSensitivity, Sensitivity

FIRST, SECOND = "net/hidden/kernel", "net/output/kernel"


@pytest.fixture
def sparse(compile_model):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "relu", name="hidden"),
            keras.layers.Dense(3, name="output"),
        ],
        name="net",
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    return compile_model(tfl.sparsify(model))


@pytest.fixture
def examples(make_data):
    return make_data()


def outputs_with(sparse, path, sparsity, x):
    """Returns the outputs when the smallest weights of one kernel are zero."""
    weights = [np.array(weight, "float64") for weight in sparse.model.weights]
    i = {FIRST: 0, SECOND: 2}[path]
    flat = np.abs(weights[i]).reshape(-1)
    weights[i].reshape(-1)[np.argsort(flat)[: round(sparsity * flat.size)]] = 0.0
    return np.maximum(x @ weights[0] + weights[1], 0) @ weights[2] + weights[3]


def cross_entropy(outputs, y):
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -logs[np.arange(len(y)), y].mean()


@pytest.mark.backend
def test_values_are_those_of_models_with_one_pruned_kernel(sparse, examples):
    x, y = examples
    before = [np.array(weight) for weight in sparse.weights]
    measured = {
        measure: tfl.sensitivity(
            sparse,
            x if measure == "outputs" else (x, y),
            measure=measure,
            sparsities=(0.25, 0.75),
            verbose=0,
        )
        for measure in ("loss", "accuracy", "outputs")
    }
    dense = outputs_with(sparse, FIRST, 0.0, x)
    for i, path in enumerate((FIRST, SECOND)):
        for j, sparsity in enumerate((0.25, 0.75)):
            outputs = outputs_with(sparse, path, sparsity, x)
            expected = {
                "loss": cross_entropy(outputs, y),
                "accuracy": (outputs.argmax(axis=1) == y).mean(),
                "outputs": np.square(outputs - dense).mean() / dense.var(),
            }
            for measure, value in expected.items():
                row = measured[measure].rows[i]
                assert row.name == path
                assert row.values[j] == pytest.approx(value, rel=1e-4)
    assert measured["loss"].unpruned == pytest.approx(cross_entropy(dense, y), rel=1e-5)
    for weight, value in zip(sparse.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_changes_of_layers(sparse, examples):
    x, _ = examples
    result = tfl.sensitivity(sparse, x, measure="layers", sparsities=(0.25, 0.75), verbose=0)
    kernel = np.array(sparse.kernels[FIRST], "float64")
    order = np.argsort(np.abs(kernel).reshape(-1))
    for value, count in zip(result.rows[0].values, (12, 36), strict=True):
        lost = np.zeros(48)
        lost[order[:count]] = kernel.reshape(-1)[order[:count]]
        expected = np.square(x @ lost.reshape(6, 8)).sum() / np.square(x @ kernel).sum()
        assert value == pytest.approx(expected, rel=1e-4)


def test_allocated_sparsities_meet_the_budget(sparse, examples):
    result = tfl.sensitivity(sparse, examples, sparsities=(0.5, 0.75, 0.9), verbose=0)
    shares = result.allocate({"parameters": 0.25})
    assert set(shares) == {FIRST, SECOND}
    tfl.prune(sparse, shares)
    assert sparse.density == pytest.approx(0.25, abs=1 / 72)
    flops = result.allocate({"flops": 0.5})
    assert tfl.flops(sparse, sparsities=flops).ratio == pytest.approx(0.5)
    for budget in (120, 200, 201):
        size = result.allocate({"bytes": budget})
        report = tfl.flops(sparse, sparsities=size)
        used = sum(4 * r.nonzeros + (r.size / 8 if r.nonzeros < r.size else 0) for r in report.rows)
        assert budget - 8 < used <= budget


def test_kernels_of_layers_that_cannot_be_measured_are_skipped():
    model = keras.Sequential(
        [
            keras.Input((4, 6)),
            keras.layers.SimpleRNN(3, name="rnn"),
            keras.layers.Dense(3, name="output"),
        ],
        name="net",
    )
    sparse = tfl.sparsify(model)
    x = np.random.default_rng(0).normal(size=(5, 4, 6))
    result = tfl.sensitivity(sparse, x, measure="layers", sparsities=(0.5, 0.9), verbose=0)
    assert [row.name for row in result.rows] == [SECOND]
    assert set(result.skipped) == set(sparse.kernels) - {SECOND}
    assert "Not measured:" in str(result) and "rnn" in str(result)
    shares = result.allocate({"parameters": 0.5})
    assert shares == {**dict.fromkeys(result.skipped, 0.0), SECOND: 0.5}
    tfl.prune(sparse, shares)


def test_kernels_that_matter_less_become_sparser():
    rows = [KernelSensitivity("easy", 10, [0.0, 0.1]), KernelSensitivity("hard", 10, [1.0, 2.0])]
    result = Sensitivity("loss", [0.5, 0.9], rows, 0.0)
    assert result.allocate({"parameters": 0.55}) == {"easy": 0.9, "hard": 0.0}


def test_channel_groups(compile_model, examples):
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
    )
    sparse = compile_model(tfl.sparsify(model, pattern="channel"))
    result = tfl.sensitivity(sparse, examples, sparsities=(0.5,), verbose=0)
    assert [row.name for row in result.rows] == [group.name for group in sparse.groups]
    assert sparse.sparsity == 0.0
    with pytest.raises(ValueError, match="Budgets of channels"):
        result.allocate({"parameters": 0.5})
    with pytest.raises(ValueError, match="`measure` must not be 'layers'"):
        tfl.sensitivity(sparse, examples, measure="layers", verbose=0)


def test_report(sparse, examples, tmp_path, capsys):
    result = tfl.sensitivity(sparse, examples[0], sparsities=(0.5, 0.9))
    assert "4/4" in capsys.readouterr().out
    assert json.loads(json.dumps(result.to_dict()))["measure"] == "outputs"
    assert "50%" in str(result) and FIRST in str(result)
    result.plot(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsities": ()}, "`sparsities` must be rising"),
        ({"sparsities": 0.9}, "`sparsities` must be rising"),
        ({"sparsities": (0.5, 0.4)}, "`sparsities` must be rising"),
        ({"sparsities": (0.5, 1.0)}, "`sparsities` must be in"),
        ({"measure": "flops"}, "`measure` must be one of"),
        ({"measure": "loss", "data": np.ones((3, 6))}, "`data` must be a tuple"),
    ],
)
def test_bad_arguments(sparse, examples, arguments, message):
    with pytest.raises(ValueError, match=message):
        tfl.sensitivity(sparse, **{"data": examples, "verbose": 0, **arguments})


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"milliseconds": 3}, "`budget` must be one of"),
        ({"parameters": 2}, "must be a fraction"),
        ({"parameters": 0}, "must be a number > 0"),
        ({"parameters": 0.01}, "must be at least"),
        (0.5, "must be a dict"),
        ({"flops": 0.5}, "FLOPs are not counted"),
    ],
)
def test_bad_budgets(budget, message):
    rows = [KernelSensitivity("kernel", 10, [1.0])]
    with pytest.raises(ValueError, match=message):
        Sensitivity("loss", [0.5], rows, 0.0).allocate(budget)
