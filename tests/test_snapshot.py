import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.growth import prepare_collecting
from tf_lottery.optimizers import training_step
from tf_lottery.training import Training

pytestmark = pytest.mark.backend


def values(variables):
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def trained(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model("subclassed"), sparsity=0.5))
    model.fit(*make_data("subclassed"), batch_size=8, epochs=1, verbose=0)
    return model


def test_everything_goes_back(trained, make_data):
    snapshot = tfl.Snapshot(trained)
    variables, optimizer = values(trained.variables), values(trained.optimizer.variables)
    assert snapshot.step == 3
    trained.fit(*make_data("subclassed"), batch_size=8, epochs=2, verbose=0)
    tfl.prune(trained, 0.75)
    snapshot.restore(trained)
    assert_same(values(trained.variables), variables)
    assert_same(values(trained.optimizer.variables), optimizer)


def test_only_the_asked_parts_go_back(trained, make_data):
    snapshot = tfl.Snapshot(trained)
    trained.fit(*make_data("subclassed"), batch_size=8, epochs=1, verbose=0)
    tfl.prune(trained, 0.75)
    slots = values(trained.optimizer.variables)[1:]
    snapshot.restore(trained, kinds=("weights", "step"))
    assert training_step(trained.optimizer) == 3
    assert trained.sparsity == 0.75
    assert_same(values(trained.optimizer.variables)[1:], slots)
    for path, weight in zip(snapshot.weights, trained.model.weights, strict=True):
        np.testing.assert_array_equal(weight, snapshot.weights[path])


def test_file_keeps_everything(trained, make_data, make_model, compile_model, tmp_path):
    tfl.Snapshot(trained).save(tmp_path / "snapshot.npz")
    other = compile_model(tfl.sparsify(make_model("subclassed")))
    tfl.Snapshot.load(tmp_path / "snapshot.npz", other).restore(other)
    assert_same(values(other.variables), values(trained.variables))
    assert_same(values(other.optimizer.variables), values(trained.optimizer.variables))


def state_by_kind(model):
    """Returns the expected variables of every kind of state, listed explicitly."""
    rate, step = model.optimizer.learning_rate, model.optimizer.iterations
    kinds = {
        "weights": model.model.weights,
        "seeds": model.model.dropout.seed_generator.state,
        "optimizer": [v for v in model.optimizer.variables if v is not rate and v is not step],
        "learning_rate": rate,
        "step": step,
    }
    if model.growth is None:
        return {**kinds, "gates": model.selection.variables}
    return {
        **kinds,
        "masks": model.selection.variables,
        "growth": model.growth.variables,
        "tweaks": model.tweaks[0].variables,
    }


@pytest.mark.parametrize("learns_masks", [False, True])
def test_every_kind_goes_back_and_no_other(learns_masks, make_model, compile_model):
    gate = tfl.SoftGate(0.1) if learns_masks else None
    model = compile_model(tfl.sparsify(make_model("subclassed"), gate=gate))
    model.optimizer.build(model.trainable_variables)
    if not learns_masks:
        prepare_collecting(Training.of(model), decay=0.9)
        tfl.retrain.soft_activations(model)
    state = {kind: keras.tree.flatten(found) for kind, found in state_by_kind(model).items()}
    before = {kind: values(variables) for kind, variables in state.items()}
    assert all(before.values())
    changed = {
        kind: [~array if array.dtype == bool else array + np.ones_like(array) for array in arrays]
        for kind, arrays in before.items()
    }
    snapshot = tfl.Snapshot(model)
    for kind in state:
        for other, variables in state.items():
            for variable, array in zip(variables, changed[other], strict=True):
                variable.assign(array)
        snapshot.restore(model, kinds=(kind,))
        for other, variables in state.items():
            assert_same(values(variables), (before if other == kind else changed)[other])


def test_model_without_optimizer(make_model):
    model = make_model()
    snapshot = tfl.Snapshot(model)
    model.layers[0].kernel.assign(np.zeros((6, 8)))
    snapshot.restore(model)
    assert snapshot.step == 0
    assert np.any(keras.ops.convert_to_numpy(model.layers[0].kernel))


def test_other_architecture_is_refused_and_unchanged(trained, make_model):
    other = make_model("dense")
    before = values(other.weights)
    with pytest.raises(ValueError, match="`model` must have the weights of the snapshot.*Received"):
        tfl.Snapshot(trained).restore(other)
    assert_same(values(other.weights), before)


def test_unbuilt_model_is_refused():
    with pytest.raises(ValueError, match="must be built.*Received: 'unbuilt'"):
        tfl.Snapshot(keras.Sequential([keras.layers.Dense(3)], name="unbuilt"))


def test_unknown_kind_is_refused(trained):
    with pytest.raises(ValueError, match="`kinds` must be among .*Received: 'weigths'"):
        tfl.Snapshot(trained).restore(trained, kinds=("weigths",))


def test_step_is_that_of_the_innermost_optimizer(make_model, make_data, compile_model):
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    model = compile_model(tfl.sparsify(make_model()), optimizer)
    model.fit(*make_data(), batch_size=8, epochs=2, verbose=0)
    assert training_step(optimizer) == 6
    snapshot = tfl.Snapshot(model)
    model.fit(*make_data(), batch_size=8, epochs=1, verbose=0)
    snapshot.restore(model, kinds=("step",))
    assert training_step(optimizer) == 6


@pytest.fixture
def gated(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model("subclassed"), gate=tfl.SoftGate(0.1)))
    model.selection.control.anneal(20, 200.0)
    model.fit(*make_data("subclassed"), batch_size=8, epochs=1, verbose=0)
    return model


def test_gates_are_a_part_of_their_own(gated, make_data):
    snapshot = tfl.Snapshot(gated)
    before, expected = gated.selection.values, values(gated.selection.control.variables)
    gated.fit(*make_data("subclassed"), batch_size=8, epochs=1, verbose=0)
    trained = gated.selection.values
    snapshot.restore(gated, kinds=("weights",))
    assert_same(gated.selection.values, trained)
    snapshot.restore(gated, kinds=("gates",))
    assert_same(gated.selection.values, before)
    assert_same(values(gated.selection.control.variables), expected)
    assert not any("gate" in path for path in snapshot.weights)


def test_settled_gates_become_soft_again(gated):
    snapshot = tfl.Snapshot(gated)
    before = values(gated.variables)
    tfl.strip(gated)
    assert not gated.has_soft_gates
    snapshot.restore(gated)
    assert gated.has_soft_gates
    assert_same(values(gated.variables), before)


def test_file_keeps_gates(gated, make_model, compile_model, tmp_path):
    tfl.Snapshot(gated).save(tmp_path / "snapshot.npz")
    other = compile_model(tfl.sparsify(make_model("subclassed"), gate=tfl.SoftGate(0.1)))
    tfl.Snapshot.load(tmp_path / "snapshot.npz", other).restore(other)
    assert_same(values(other.variables), values(gated.variables))
    plain = compile_model(tfl.sparsify(make_model("subclassed")))
    with pytest.raises(ValueError, match="`model` must have the .* of the snapshot"):
        tfl.Snapshot.load(tmp_path / "snapshot.npz", plain).restore(plain)


def test_another_optimizer_must_be_built(make_model):
    model, optimizer = make_model(), keras.optimizers.SGD()
    with pytest.raises(ValueError, match="`optimizer` must be built with all variables"):
        tfl.Snapshot(model, optimizer)
    optimizer.build(model.trainable_variables)
    assert tfl.Snapshot(model, optimizer).step == 0
