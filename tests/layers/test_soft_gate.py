import keras
import pytest

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
