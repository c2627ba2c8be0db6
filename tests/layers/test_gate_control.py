import keras
import numpy as np
import pytest

from tf_lottery.layers.gate_control import GateControl


@pytest.fixture
def control():
    return GateControl(penalty=1e-3)


def number(tensor):
    return float(keras.ops.convert_to_numpy(tensor))


def test_temperature_rises_exponentially_and_not_past_the_last_step(control):
    control.anneal(last_position=3, final_temperature=200.0)
    temperatures = [number(control.advance()[0]) for _ in range(6)]
    expected = [1.0, 200 ** (1 / 3), 200 ** (2 / 3), 200.0, 200.0, 200.0]
    np.testing.assert_allclose(temperatures, expected, rtol=1e-6)
    assert temperatures[0] == 1.0
    assert temperatures[3:] == [200.0] * 3


@pytest.mark.parametrize("last_position", [7, 331, 1499])
def test_ends_of_a_round_are_exact(last_position, control):
    control.anneal(last_position, 200.0)
    control.move_to(last_position)
    assert number(control.advance()[0]) == 200.0
    control.move_to(last_position - 1)
    assert number(control.advance()[0]) < 200.0
    control.anneal(last_position, 200.0)
    assert number(control.temperature) == 1.0
    assert number(control.advance()[0]) == 1.0


def test_without_a_stride_only_a_move_raises_the_temperature(control):
    control.anneal(last_position=2, final_temperature=100.0, stride=0.0)
    assert [number(control.advance()[0]) for _ in range(3)] == [1.0, 1.0, 1.0]
    control.move_to(1)
    found = [number(control.advance()[0]) for _ in range(2)]
    np.testing.assert_allclose(found, [10.0, 10.0], rtol=1e-6)


def test_temperature_stays_outside_of_a_round(control):
    assert [number(control.advance()[0]) for _ in range(3)] == [1.0, 1.0, 1.0]


def test_an_evaluation_neither_moves_the_temperature_nor_takes_it_back(control):
    control.anneal(last_position=4, final_temperature=16.0)
    for _ in range(3):
        control.advance()
    control.harden(True)
    assert control.is_settled is False
    temperature, threshold, slope = map(number, control.current())
    assert (temperature * 1e-6 > threshold > 100, slope) == (True, 0.0)
    control.harden(False)
    np.testing.assert_allclose([number(v) for v in control.current()], [4, 0, 4], rtol=1e-6)
    np.testing.assert_allclose(number(control.advance()[0]), 8.0, rtol=1e-6)


def test_settled_gates_stay_hard_and_cost_nothing(control):
    control.anneal(last_position=4, final_temperature=16.0)
    control.settle()
    before = [number(tensor) for tensor in control.current()]
    assert [number(tensor) for tensor in control.advance()] == before
    assert before[1] > 0
    assert number(control.penalize(0.5)) == 0.0
    assert control.is_settled
    control.restart()
    assert not control.is_settled
    assert [number(tensor) for tensor in control.current()] == [1.0, 0.0, 1.0]
    assert number(control.penalty) == pytest.approx(1e-3)


def steered_by_hand(densities, first, last, num_steps, start=1e-3):
    """Integrates the logarithm of the strength; the plan holds from 70% of the round on."""
    strength, penalties = np.log(start), []
    for step, density in enumerate(densities):
        done = min(step / (num_steps - 1) / 0.7, 1.0)
        error = np.log(density / (first * (last / first) ** done))
        strength += 110 / num_steps * (abs(error) - 0.03)
        strength = np.clip(strength, np.log(1e-10), np.log(1e-2))
        penalties.append(np.exp(strength) * np.clip(error / 0.03, -1, 1))
    return penalties


@pytest.mark.parametrize("first", [1.0, 0.4])
def test_penalty_follows_the_error_of_the_density(first, control):
    num_steps = 1100
    rng = np.random.default_rng(0)
    densities = first * np.geomspace(1, 0.1, num_steps)[:60] * rng.uniform(0.9, 1.1, 60)
    control.anneal(num_steps - 1, 200.0)
    control.steer(num_steps, first, 0.1 * first)
    assert control.steers
    found = []
    for density in densities:
        control.advance()
        found.append(number(control.penalize(keras.ops.convert_to_tensor(density, "float32"))))
    expected = steered_by_hand(densities, first, 0.1 * first, num_steps)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert min(expected) < 0 < max(expected)


@pytest.mark.parametrize(("density", "expected"), [(1.0, 1e-2), (0.0, -1e-2), (0.5, 0.0)])
def test_penalty_has_bounds(density, expected, control):
    control.anneal(9, 200.0)
    control.steer(10, 0.5, 0.5)
    for _ in range(30):
        control.advance()
        penalty = number(control.penalize(keras.ops.convert_to_tensor(density, "float32")))
    assert penalty == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_penalty_stays_without_a_plan(control):
    assert number(control.penalize(0.1)) == pytest.approx(1e-3)
    # Compiled for steering, but in no round.
    control.steers = True
    assert number(control.penalize(0.1)) == pytest.approx(1e-3)


def test_steering_starts_from_the_penalty_or_from_a_least_one(control):
    control.steer(100, 1.0, 0.1)
    assert number(control.strength) == pytest.approx(np.log(1e-3))
    control = GateControl()
    control.steer(100, 1.0, 0.1)
    assert number(control.strength) == pytest.approx(np.log(1e-7))


def test_variables_are_scalars_that_no_optimizer_trains(control):
    assert control.trainable_variables == []
    assert {tuple(variable.shape) for variable in control.variables} == {()}
    assert {variable.dtype for variable in control.variables} == {"float32"}


def test_control_survives_serialization(control):
    config = keras.saving.serialize_keras_object(control)
    other = keras.saving.deserialize_keras_object(config)
    assert number(other.penalty) == pytest.approx(1e-3)
    assert other.initial_penalty == 1e-3
