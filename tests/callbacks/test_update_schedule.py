import pytest

from tf_lottery.callbacks.update_schedule import UpdateSchedule, end_of
from tf_lottery.sparsity.schedules import Constant, Cosine


@pytest.mark.parametrize(
    ("step", "num_due", "next_step"),
    [(0, 0, 10), (9, 0, 10), (10, 1, 20), (29, 2, 30), (30, 3, None), (999, 3, None)],
)
def test_updates_before_the_end(step, num_due, next_step):
    schedule = UpdateSchedule(range(10, 31, 10), Constant(0.3))
    assert (schedule.num_due(step), schedule.next_step(step)) == (num_due, next_step)


@pytest.mark.parametrize(
    ("step", "num_due", "next_step"),
    [(0, 0, 12), (11, 0, 12), (12, 1, 20), (30, 2, 32), (31, 2, 32), (32, 3, None)],
)
def test_updates_wait_for_accumulated_gradients(step, num_due, next_step):
    schedule = UpdateSchedule(range(10, 31, 10), Constant(0.3), accumulation_steps=4)
    assert (schedule.num_due(step), schedule.next_step(step)) == (num_due, next_step)


def test_no_updates_if_there_are_no_steps():
    schedule = UpdateSchedule(range(10, 10, 5), Constant(0.3))
    assert (schedule.num_due(50), schedule.next_step(0)) == (0, None)


@pytest.mark.parametrize(
    ("drop_fraction", "expected"),
    [
        (0.3, None),
        (Cosine(0.3, end_step=9), 9),
        (Cosine(0.3, end_step=4), None),
        (Constant(0.3, 9), None),
    ],
)
def test_end_of_a_drop_fraction(drop_fraction, expected):
    assert end_of(drop_fraction, begin_step=4) == expected
