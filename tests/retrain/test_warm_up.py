import keras
import pytest

from tf_lottery.retrain import WarmUp


def test_rates_rise_to_those_of_the_schedule():
    falling = keras.optimizers.schedules.PiecewiseConstantDecay([5], [1.0, 0.1])
    schedule = WarmUp(falling, steps=4)
    rates = [float(schedule(step)) for step in range(8)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.1, 0.1])


@pytest.mark.parametrize("schedule", [0.2, keras.optimizers.schedules.CosineDecay(0.4, 10)])
def test_schedules_are_saved_with_the_optimizer(schedule):
    optimizer = keras.optimizers.SGD(WarmUp(schedule, steps=2))
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert float(loaded.learning_rate) == pytest.approx(float(optimizer.learning_rate))


def test_steps_are_checked():
    with pytest.raises(ValueError, match="`steps` must be an integer > 0. Received: steps=0"):
        WarmUp(0.1, steps=0)
