import dataclasses

import pytest

from tf_lottery.analysis.training_flops import METHODS, training_flops
from tf_lottery.sparsity import Constant, Polynomial


@dataclasses.dataclass
class Row:
    sparse: float
    dense: float


ROWS = [Row(2.0, 10.0), Row(3.0, 6.0)]  # S = 5, D = 16


@pytest.mark.parametrize(
    ("method", "every_gradient", "without_first"),
    [
        ("dense", 48.0, 38.0),
        ("static", 15.0, 13.0),
        ("snip", 15.0, 13.0),
        ("set", 15.0, 13.0),
        ("snfs", 2 * 5.0 + 16.0, 5.0 + 3.0 + 16.0),
        ("rigl", (4 * 15.0 + 26.0) / 5, (4 * 13.0 + 24.0) / 5),
    ],
)
def test_formulas(method, every_gradient, without_first):
    assert training_flops(ROWS, method, frequency=4) == every_gradient
    found = training_flops(ROWS, method, frequency=4, first_input_gradient=False)
    assert found == without_first


def test_pruning_is_the_mean_over_the_steps():
    # Sparsities at 0, 10, 20, 30, 40 are 0, 0, .35, .4, .4: 23/40 of the final one on average.
    schedule = Polynomial(final_value=0.4, begin_step=10, end_step=30)
    values = [schedule(step) for step in (0, 10, 20, 30, 40)]
    assert values == pytest.approx([0, 0, 0.35, 0.4, 0.4])
    found = training_flops(ROWS, "pruning", frequency=10, schedule=schedule, total_steps=40)
    assert found == pytest.approx(48 - 23 / 40 * (48 - 15))


def test_pruning_from_the_first_step_is_static_training():
    for gradient in (True, False):
        kwargs = {"schedule": Constant(0.7), "total_steps": 9, "first_input_gradient": gradient}
        found = training_flops(ROWS, "pruning", frequency=1, **kwargs)
        assert found == pytest.approx(training_flops(ROWS, "static", first_input_gradient=gradient))


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"method": "adam"}, "method"),
        ({"method": "rigl", "frequency": 0}, "frequency"),
        ({"method": "pruning"}, "schedule"),
        ({"method": "pruning", "schedule": Constant(0.5)}, "total_steps"),
        ({"method": "pruning", "schedule": Constant(0.5, 9), "total_steps": 5}, "schedule"),
    ],
)
def test_wrong_arguments(kwargs, name):
    with pytest.raises(ValueError, match=f"`{name}` must .*Received: "):
        training_flops(ROWS, **kwargs)


@pytest.mark.parametrize("method", METHODS)
def test_model_without_kernels_costs_nothing(method):
    kwargs = {"schedule": Constant(0.5), "total_steps": 5, "first_input_gradient": False}
    assert training_flops([], method, **kwargs) == 0.0
