import functools

import keras
import pytest

from tf_lottery.experiments.optimizer_settings import OptimizerSettings
from tf_lottery.experiments.retraining import RetrainSettings
from tf_lottery.experiments.stability import StabilitySettings
from tf_lottery.experiments.training import TrainSettings


def rates(settings, steps, at):
    schedule = settings.schedule_of(steps)
    return [float(schedule(step)) for step in at]


def test_defaults_are_adam_at_the_rate_of_the_lottery_tickets():
    optimizer = OptimizerSettings().make_optimizer(10)
    assert type(optimizer) is keras.optimizers.Adam
    assert float(optimizer.learning_rate) == pytest.approx(1.2e-3)
    assert optimizer.weight_decay is None


def test_sgd_has_nesterov_momentum_and_a_rate_of_its_own():
    settings = OptimizerSettings(optimizer="sgd", weight_decay=5e-3)
    optimizer = settings.make_optimizer(10)
    assert (optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (0.9, True, 5e-3)
    assert settings.learning_rate == 0.1
    assert OptimizerSettings(optimizer="sgd", learning_rate=0.3).learning_rate == 0.3


def test_schedules():
    cosine = OptimizerSettings(optimizer="sgd", schedule="cosine")
    assert rates(cosine, 100, (0, 50, 100)) == pytest.approx([0.1, 0.05, 0.0])
    step = OptimizerSettings(optimizer="sgd", schedule="step")
    assert rates(step, 100, (0, 49, 51, 74, 76)) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    assert OptimizerSettings().schedule_of(100) == 1.2e-3


def test_rates_rise_and_fall_at_shares_of_the_training():
    settings = OptimizerSettings(optimizer="sgd", schedule="step", drops=[0.2, 0.6], warm_up=0.1)
    expected = [0.01, 0.1, 0.1, 0.01, 0.001]
    assert rates(settings, 100, (0, 9, 20, 21, 61)) == pytest.approx(expected)


@pytest.mark.parametrize("drops", [(0.6, 0.2), (0.5, 0.5), (0.0, 0.5), (1.0,)])
def test_shares_of_the_training_are_checked(drops):
    with pytest.raises(ValueError, match="`drops` must be rising shares of the training"):
        OptimizerSettings(drops=drops)


def test_settings_of_experiments_are_settings_of_optimizers():
    train = TrainSettings("rigl", "conv-4", 0.9, optimizer="sgd", schedule="step", augment=["flip"])
    found = train.to_dict()
    assert (found["learning_rate"], found["schedule"], found["augment"]) == (0.1, "step", ["flip"])
    assert RetrainSettings("conv-4").schedule == "cosine"


@pytest.mark.parametrize(
    ("name", "value"),
    [("optimizer", "rms"), ("schedule", "linear"), ("learning_rate", 0), ("weight_decay", -1)],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received: .*{value!r}"):
        OptimizerSettings(**{name: value})


@pytest.mark.parametrize("name", ["epochs", "steps_per_epoch", "batch_size"])
@pytest.mark.parametrize(
    "make", [TrainSettings, functools.partial(RetrainSettings, "lenet-5"), StabilitySettings]
)
def test_a_training_has_a_length(make, name):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer > 0. Received: {name}=0"):
        make(**{name: 0})
