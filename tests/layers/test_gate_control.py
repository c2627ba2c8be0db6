import keras
import numpy as np
import pytest

from tf_lottery.layers.gate_control import GateControl

pytestmark = pytest.mark.backend


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


@pytest.mark.parametrize("calls", [1, 2])
def test_calls_of_a_step_share_its_temperature_and_penalty(calls, control):
    for _ in range(2):
        control.anneal(last_position=4, final_temperature=16.0)
        for _ in range(calls * 2):
            control.advance()
        control.share_steps(2)
        found = [number(control.advance()[0]) for _ in range(3)]
        expected = [16.0 ** min(1.0, (2 + i / calls) / 4) for i in range(3)]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert number(control.penalty) == pytest.approx(1e-3 / calls)


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


def penalize(control, density):
    control.advance()
    return number(control.penalize(keras.ops.convert_to_tensor(density, "float32")))


def steered_by_hand(densities, last, num_steps, gain):
    """Integrates the logarithm of the strength; the target is constant after 70% of the round."""
    strength, penalties = np.log(1e-7), []
    for step, density in enumerate(densities):
        done = min(step / (num_steps - 1) / 0.7, 1.0)
        error = np.log(density / (densities[0] * (last / densities[0]) ** done))
        strength += gain * (abs(error) - 0.03)
        penalties.append(np.exp(strength) * np.clip(error / 0.03, -1, 1))
    return penalties


@pytest.mark.parametrize(("num_steps", "gain"), [(40, 0.1), (2200, 0.05)])
def test_penalty_follows_the_error_of_the_density(num_steps, gain, control):
    densities = 0.6 * np.random.default_rng(0).uniform(0.2, 1.3, 40)
    control.anneal(num_steps - 1, 200.0)
    control.steer(num_steps, 0.1)
    assert control.steers
    found = [penalize(control, density) for density in densities]
    expected = steered_by_hand(densities, 0.1, num_steps, gain)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-9)
    assert min(expected) < -1e-8 < 1e-8 < max(expected)


@pytest.mark.parametrize(("density", "expected"), [(1.0, 1e-2), (0.0, -1e-2), (0.5, 0.0)])
def test_penalty_has_bounds(density, expected, control):
    control.anneal(9, 200.0)
    control.steer(10, 0.5)
    assert penalize(control, 0.5) == pytest.approx(0.0, abs=1e-9)
    control.strength.assign(-5.0)
    for _ in range(20):
        penalty = penalize(control, density)
    assert penalty == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_every_round_is_led_from_its_first_density_with_the_strength_reached(control):
    for first, error in ((0.8, np.log(2)), (0.2, np.log(8))):
        before = number(control.strength)
        control.anneal(99, 200.0)
        control.steer(100, first / 2)
        penalize(control, first)
        control.move_to(99)
        # At the end of the plan the density should be one half.
        penalize(control, first * np.exp(error) / 2)
        assert number(control.strength) == pytest.approx(
            before + 0.1 * (error - 2 * 0.03), rel=1e-5
        )


def test_nothing_is_steered_without_a_plan(control):
    assert penalize(control, 0.1) == pytest.approx(1e-3)
    before = [number(variable) for variable in control.variables]
    # Compiled for steering, but outside of any round.
    control.steers = True
    assert penalize(control, 0.1) == pytest.approx(1e-3)
    assert [number(variable) for variable in control.variables] == before


def test_variables_are_scalars_that_no_optimizer_trains(control):
    assert control.trainable_variables == []
    assert {tuple(variable.shape) for variable in control.variables} == {()}
    assert {variable.dtype for variable in control.variables} == {"float32"}


def test_control_survives_serialization(control):
    config = keras.saving.serialize_keras_object(control)
    other = keras.saving.deserialize_keras_object(config)
    assert number(other.penalty) == pytest.approx(1e-3)
    assert other.initial_penalty == 1e-3
