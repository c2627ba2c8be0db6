import numpy as np
import pytest

from tf_lottery.sparsity import gates


def test_sigmoid_of_the_temperature_times_the_value():
    values = np.array([-0.02, 0.0, 0.01, 1.0])
    expected = 1 / (1 + np.exp(-200 * values))
    np.testing.assert_allclose(gates.sigmoid(values, 200.0), expected, rtol=1e-12)
    assert gates.sigmoid(np.array(0.0)) == 0.5


@pytest.mark.filterwarnings("error")
def test_sigmoid_does_not_overflow():
    values = np.array([-1e6, 1e6], "float32")
    assert gates.sigmoid(values, 1e30).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("initial_value", "expected"),
    [
        (0.0, [-20.0, -0.2, 0.0, 0.0, 0.0]),
        (-0.1, [-20.0, -0.2, -0.1, -0.1, -0.1]),
        (0.3, [-20.0, -0.2, 0.0, 0.2, 0.3]),
    ],
)
def test_reset_reopens_survivors_and_pushes_the_others_down(initial_value, expected):
    values = np.array([-0.1, -0.001, 0.0, 0.001, 0.1])
    np.testing.assert_allclose(gates.reset(values, initial_value, 200.0), expected, atol=1e-12)


def test_shut_gates_have_neither_a_value_nor_a_slope():
    shut = gates.shut_below(np.array([-0.2, -0.1, 0.0, 0.3], "float32"), -0.1)
    np.testing.assert_allclose(shut[1:], [-0.1, 0.0, 0.3], rtol=1e-6)
    gate = gates.sigmoid(shut[0])
    assert gate == 0.0
    assert gate * (1 - gate) == 0.0


def test_undecided_gates_are_between_1_and_99_percent():
    # The sigmoid of log(99) is 0.99.
    bound = np.log(99.0)
    values = [np.array([-bound - 0.01, 0.01 - bound]), np.array([[bound - 0.01], [bound + 0.01]])]
    assert gates.undecided(values, 1.0) == 0.5
    assert gates.undecided([values[0]], 1.0) == 0.5
    assert gates.undecided([array / 200 for array in values], 200.0) == 0.5
    assert gates.undecided([array / 200 for array in values], 1.0) == 1.0
    assert gates.undecided([np.full(3, -gates.SHUT), np.full(1, gates.SHUT)], 1.0) == 0.0
