import keras
import pytest

from tf_lottery.callbacks.step_count import StepCount


@pytest.mark.parametrize(
    ("steps_per_epoch", "executions", "made", "expected"),
    [
        (6, 1, 4, 4),
        (6, 2, 6, 6),
        # There were more data, so that Keras ran the last execution in full.
        (6, 2, 8, 8),
        (None, 1, 4, 4),
        (None, 2, 6, 6),
        # Loss scaling has skipped steps: at least one batch was in the second execution.
        (6, 2, 3, 6),
        (None, 2, 3, 5),
    ],
)
def test_batches_of_an_epoch(steps_per_epoch, executions, made, expected):
    optimizer = keras.optimizers.SGD()
    optimizer.iterations.assign(10)
    count = StepCount()
    count.read(optimizer)
    count.begin_epoch(2)
    count.begin_batches(0)
    for execution in range(executions):
        count.end_batch(4 * execution + 3)
    assert count.step == 10 + 4 * executions
    optimizer.iterations.assign(10 + made)
    assert count.batches_done(optimizer, 4, steps_per_epoch) == expected


def test_epochs_of_a_training():
    count = StepCount()
    assert count.first_epoch is None
    for epoch in (3, 4):
        count.begin_epoch(epoch)
        assert (count.epoch, count.first_epoch, count.last_batch) == (epoch, 3, None)
        count.begin_batches(0)
        assert count.last_batch == -1
