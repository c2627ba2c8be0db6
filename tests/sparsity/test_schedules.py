import keras
import numpy as np
import pytest

from tf_lottery.sparsity import Constant, Cosine, Geometric, InversePower, Polynomial


def test_polynomial_follows_zhu_and_gupta():
    schedule = Polynomial(final_value=0.9, end_step=1100, begin_step=100, initial_value=0.1)
    steps = np.arange(100, 1101, 50)
    # s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3 with t_0 = 100, n dt = 1000
    expected = 0.9 - 0.8 * ((1100 - steps) / 1000) ** 3
    np.testing.assert_allclose([schedule(int(step)) for step in steps], expected, rtol=1e-12)


def test_polynomial_outside_its_steps():
    schedule = Polynomial(final_value=0.9, end_step=20, begin_step=10, initial_value=0.5)
    assert [schedule(9), schedule(10), schedule(20), schedule(10**9)] == [0.0, 0.5, 0.9, 0.9]


def test_polynomial_of_one_step():
    assert Polynomial(final_value=0.9, end_step=5, begin_step=5)(5) == 0.9


def test_power_one_is_linear():
    assert Polynomial(final_value=0.8, end_step=4, power=1)(1) == pytest.approx(0.2)


def test_constant_begins_at_its_step():
    schedule = Constant(0.5, begin_step=3)
    assert [schedule(2), schedule(3), schedule(99), schedule.end_step] == [0.0, 0.5, 0.5, 3]


def test_geometric_gives_the_densities_of_the_papers():
    densities = [round(100 * (1 - Geometric(0.2)(level)), 2) for level in range(1, 12)]
    assert densities == [80, 64, 51.2, 40.96, 32.77, 26.21, 20.97, 16.78, 13.42, 10.74, 8.59]


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.3), (6250, 0.25607), (12500, 0.15), (18750, 0.043934), (25000, 0), (99999, 0)],
)
def test_cosine_of_the_rigl_paper(step, expected):
    assert Cosine(0.3, end_step=25_000)(step) == pytest.approx(expected, abs=5e-6)
    shifted = Cosine(0.3, end_step=25_100, begin_step=100)
    assert shifted(step + 100) == pytest.approx(expected, abs=5e-6)


def test_inverse_power_of_the_rigl_paper():
    linear, cubic = (InversePower(0.4, 110, power, begin_step=10) for power in (1, 3))
    steps = np.arange(10, 111)
    left = (110 - steps) / 100
    np.testing.assert_allclose([linear(int(step)) for step in steps], 0.4 * left, atol=1e-12)
    np.testing.assert_allclose([cubic(int(step)) for step in steps], 0.4 * left**3, atol=1e-12)


@pytest.mark.parametrize("kind", [Cosine, InversePower])
def test_annealing_outside_its_steps_is_exactly_zero(kind):
    schedule = kind(0.3, end_step=20, begin_step=10)
    assert [schedule(step) for step in (0, 9, 10, 20, 21)] == [0.0, 0.0, 0.3, 0.0, 0.0]
    assert schedule(19) > 0
    assert kind(0.3, end_step=5, begin_step=5)(5) == 0.0


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(0.5, 3),
        Polynomial(0.9, 10, begin_step=2, power=2),
        Cosine(0.3, 10, begin_step=2),
        InversePower(0.3, 10, power=1, begin_step=2),
        Geometric(0.2),
    ],
)
def test_schedules_survive_serialization(schedule):
    config = keras.saving.serialize_keras_object(schedule)
    assert keras.saving.deserialize_keras_object(config) == schedule


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(1.0), "`value` must be in"),
        (lambda: Constant(0.5, begin_step=-1), "`begin_step`"),
        (lambda: Polynomial(1.5, 10), "`final_value`"),
        (lambda: Polynomial(0.5, 10, initial_value=-0.5), "`initial_value`"),
        (lambda: Polynomial(0.5, 10, begin_step=11), "`end_step` must not lie before"),
        (lambda: Polynomial(0.5, 10, power=0), "`power`"),
        (lambda: Cosine(1.0, 10), "`initial_value` must be in"),
        (lambda: Cosine(0.3, 10, begin_step=11), "`end_step` must not lie before"),
        (lambda: InversePower(1.0, 10), "`initial_value` must be in"),
        (lambda: InversePower(0.3, 10, begin_step=11), "`end_step` must not lie before"),
        (lambda: InversePower(0.3, 10, power=0), "`power`"),
        (lambda: Geometric(1.0), "`rate`"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        make()
