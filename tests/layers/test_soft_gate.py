import json

import keras
import numpy as np
import pytest
from keras import ops

import tf_lottery as tfl
from tf_lottery.layers import soft_gate


@pytest.mark.parametrize(
    ("initial_value", "scale"),
    [(-0.3, 2.35), (-0.1, 2.105), (0.0, 2.0), (0.1, 1.905), (0.3, 1.741)],
)
def test_scale_opens_untrained_gates_fully(initial_value, scale):
    assert tfl.SoftGate(initial_value).scale == pytest.approx(scale, abs=5e-4)
    assert tfl.SoftGate(initial_value, rescale=False).scale == 1.0


def test_defaults_are_those_of_the_paper():
    gate = tfl.SoftGate()
    assert (gate.initial_value, gate.penalty, gate.learning_rate_multiplier) == (0.0, 1e-8, 1.0)
    assert (gate.normalize, gate.rescale, gate.stochastic) == (False, True, False)


def test_gate_survives_serialization():
    gate = tfl.SoftGate(-0.1, 1e-3, True, 5.0, False, True)
    config = keras.saving.serialize_keras_object(gate)
    assert keras.saving.deserialize_keras_object(config) == gate
    assert soft_gate.get(config) == gate
    assert soft_gate.get(gate) is gate


needs_several = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
)


@needs_several
def test_configuration_of_an_optimizer_is_kept():
    rate = keras.optimizers.schedules.CosineDecay(0.1, 10)
    gate = tfl.SoftGate(optimizer=keras.optimizers.SGD(rate, momentum=0.9, nesterov=True))
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(gate)))
    again = keras.saving.deserialize_keras_object(config)
    assert again == gate
    first, second = again.make_optimizer(), again.make_optimizer()
    # A search writes the configuration, also after an optimizer was made from it.
    assert json.loads(json.dumps(again.get_config())) == gate.get_config()
    assert first is not second and isinstance(first, keras.optimizers.SGD)
    assert (first.momentum, first.nesterov, first.weight_decay) == (0.9, True, None)
    assert isinstance(tfl.SoftGate(optimizer="adam").make_optimizer(), keras.optimizers.Adam)
    assert tfl.SoftGate().make_optimizer() is None


@needs_several
@pytest.mark.parametrize("optimizer", ["sdg", 0.1, "scaled"])
def test_something_else_than_an_optimizer_is_refused(optimizer):
    if optimizer == "scaled":
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    with pytest.raises(ValueError, match="`optimizer` must be a Keras optimizer.*Received"):
        tfl.SoftGate(optimizer=optimizer)


def test_keras_without_several_optimizers_is_named(monkeypatch):
    monkeypatch.delattr(keras.optimizers, "MultiOptimizer", raising=False)
    with pytest.raises(ValueError, match="MultiOptimizer.*Received: Keras 3"):
        tfl.SoftGate(optimizer="sgd")


@needs_several
def test_gates_with_an_optimizer_can_be_compiled_without_one(make_model):
    model = tfl.sparsify(make_model(), gate=tfl.SoftGate(optimizer="sgd"))
    model.compile(optimizer=None, loss="mse")
    assert model.optimizer is None


@needs_several
@pytest.mark.backend
def test_gates_are_trained_by_their_own_optimizer(make_model, make_data, tmp_path):
    """A step at 0.3 moves gates six times as far as one at 0.05, and the weights as before."""
    x, y = make_data()
    moved = []
    for gate in (tfl.SoftGate(), tfl.SoftGate(optimizer=keras.optimizers.SGD(0.3, momentum=0.5))):
        model = tfl.sparsify(make_model(), gate=gate)
        before = [ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.05), loss, run_eagerly=True)
        model.train_on_batch(x, y)
        pairs = zip(model.trainable_variables, before, strict=True)
        moved.append([ops.convert_to_numpy(v) - b for v, b in pairs])
        is_gate = ["gate_" in v.name for v in model.trainable_variables]
    assert 0 < sum(is_gate) < len(is_gate)
    for plain, own, gate in zip(*moved, is_gate, strict=True):
        np.testing.assert_allclose(own, (6 if gate else 1) * plain, rtol=1e-4, atol=1e-7)
    model.save(tmp_path / "gated.keras")
    loaded = keras.saving.load_model(tmp_path / "gated.keras")
    loaded.run_eagerly = True
    for each in (model, loaded):
        each.train_on_batch(x, y)
    for a, b in zip(model.trainable_variables, loaded.trainable_variables, strict=True):
        np.testing.assert_allclose(*map(ops.convert_to_numpy, (a, b)), rtol=1e-6)


@needs_several
def test_optimizer_with_another_inside_is_refused(make_model):
    model = tfl.sparsify(make_model(), gate=tfl.SoftGate(optimizer="sgd"))
    with pytest.raises(ValueError, match="`optimizer` must be a plain optimizer"):
        model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), "mse")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial_value": "0"}, "`initial_value` must be a number"),
        ({"initial_value": -50.0}, "`initial_value` must be a number > -50"),
        ({"initial_value": float("nan")}, "`initial_value`"),
        ({"initial_value": float("inf")}, "`initial_value`"),
        ({"penalty": -1e-8}, "`penalty` must be a number >= 0"),
        ({"penalty": None}, "`penalty`"),
        ({"learning_rate_multiplier": 0}, "`learning_rate_multiplier` must be a number > 0"),
        ({"learning_rate_multiplier": True}, "`learning_rate_multiplier`"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: {next(iter(arguments))}="):
        tfl.SoftGate(**arguments)


@pytest.mark.parametrize("gate", [None, "soft", 0.0, tfl.SoftGate])
def test_something_else_than_a_gate_is_refused(gate):
    with pytest.raises(ValueError, match="`gate` must be a `tfl.SoftGate`. Received"):
        soft_gate.get(gate)
