import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import GradualMagnitudePruning
from tf_lottery.snapshot import training_step
from tf_lottery.sparsity import Constant, Polynomial

pytestmark = pytest.mark.backend


class SparsityByStep(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.sparsities = []

    def on_train_batch_end(self, batch, logs=None):
        self.sparsities.append(self.model.sparsity)


def train(model, data, callback, epochs=2, **kwargs):
    watch = SparsityByStep()
    model.fit(*data, batch_size=4, epochs=epochs, verbose=0, callbacks=[callback, watch], **kwargs)
    return watch.sparsities


def test_masks_follow_the_schedule(make_model, make_data, compile_model):
    schedule = Polynomial(final_value=0.9, begin_step=2, end_step=11, initial_value=0.2)
    model = compile_model(tfl.sparsify(make_model()))
    found = train(model, make_data(), GradualMagnitudePruning(schedule, frequency=4))
    # Updates after steps 2, 6, 10 and, though no multiple of 4 later, 11.
    due = [0, 2, 2, 2, 2, 6, 6, 6, 6, 10, 11, 11]
    expected = [round(schedule(step) * 72) / 72 for step in due]
    assert found == pytest.approx(expected)
    assert found[-1] == round(0.9 * 72) / 72


def test_constant_prunes_once_before_the_first_step(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model()))
    found = train(model, make_data(), GradualMagnitudePruning(Constant(0.5)), epochs=1)
    assert found == [0.5] * 6


def test_chunks_of_steps_still_end_at_the_final_sparsity(make_model, make_data, compile_model):
    schedule = Polynomial(final_value=0.75, end_step=10)
    model = compile_model(tfl.sparsify(make_model()), run_eagerly=False, steps_per_execution=4)
    train(model, make_data(), GradualMagnitudePruning(schedule, frequency=3), epochs=3)
    assert model.sparsity == 0.75


def test_second_fit_goes_on_with_the_schedule(make_model, make_data, compile_model):
    schedule = Polynomial(final_value=0.75, end_step=12)
    whole, parts = (compile_model(tfl.sparsify(make_model())) for _ in range(2))
    expected = train(whole, make_data(), GradualMagnitudePruning(schedule, 3), shuffle=False)
    callback = GradualMagnitudePruning(schedule, 3)
    with pytest.warns(UserWarning, match="before the end of the schedule at step 12"):
        found = train(parts, make_data(), callback, epochs=1, shuffle=False)
    found += train(parts, make_data(), callback, epochs=1, shuffle=False)
    assert found == expected
    np.testing.assert_array_equal(parts(make_data()[0]), whole(make_data()[0]))


def test_skipped_steps_of_a_loss_scale_do_not_count(make_model, make_data, compile_model):
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01), initial_scale=2.0**127
    )
    model = compile_model(tfl.sparsify(make_model()), optimizer)
    schedule = Polynomial(final_value=0.5, begin_step=1, end_step=1)
    steps = []

    class Steps(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(training_step(self.model.optimizer))

    x, y = make_data()
    callback, watch = GradualMagnitudePruning(schedule, 1), SparsityByStep()
    model.fit(
        100 * x,
        y,
        batch_size=4,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[callback, watch, Steps()],
    )
    assert steps[0] == 0 < steps[-1] < 12
    assert watch.sparsities == [0.5 if step >= 1 else 0.0 for step in steps]


@pytest.mark.parametrize("scores", ["movement", "magnitude_increase", "random"])
def test_other_scores(scores, make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model()))
    schedule = Polynomial(final_value=0.5, end_step=6)
    train(model, make_data(), GradualMagnitudePruning(schedule, 2, scores=scores), epochs=1)
    assert model.sparsity == 0.5


def test_pattern_is_the_models_unless_given(make_model, make_data, compile_model):
    schedule = Polynomial(final_value=0.5, end_step=6)
    for pattern, holds in ((None, True), ("unstructured", False)):
        model = compile_model(tfl.sparsify(make_model("subclassed"), pattern="2:4"))
        callback = GradualMagnitudePruning(schedule, 2, pattern=pattern)
        train(model, make_data("subclassed"), callback, epochs=1)
        assert model.sparsity == pytest.approx(0.5, abs=0.01)
        assert all(map(model.pattern.holds, model.get_masks().values())) == holds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": 0.5}, "`schedule` must be a schedule"),
        ({"schedule": lambda step: 0.5}, "`schedule` must be a schedule"),
        ({"frequency": 0}, "`frequency` must be an integer > 0"),
        ({"scope": "gobal"}, "`scope`"),
        ({"scores": "magnitud"}, "`scores`"),
        ({"pattern": "2of4"}, "`pattern`"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        GradualMagnitudePruning(**{"schedule": Constant(0.5), **arguments})
