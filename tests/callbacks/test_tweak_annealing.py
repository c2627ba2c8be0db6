import keras
import numpy as np
import pytest
from keras import ops

import tf_lottery as tfl

SGD = keras.optimizers.SGD


class Values(keras.callbacks.Callback):
    """Records the variables of the tweaks after every batch."""

    def __init__(self, *names):
        super().__init__()
        self.names = names
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        found = [
            float(ops.convert_to_numpy(getattr(tweak, name)))
            for tweak in self.model.tweaks
            for name in self.names
            if hasattr(tweak, name)
        ]
        self.values.append(found[0])


@pytest.fixture
def convolutional():
    """A model with a rectifier and a masked convolution."""
    layers = [
        keras.Input((6, 6, 2)),
        keras.layers.Conv2D(3, 3, padding="same", activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
    return tfl.sparsify(keras.Sequential(layers), 0.5)


def train(model, data, callback, compile_model, epochs=1, **kwargs):
    """Trains for six steps per epoch and returns the annealed variable after each step."""
    watch = Values("softness", "factor", "alpha")
    compile_model(model, SGD(0.01), **kwargs)
    model.fit(*data, batch_size=4, epochs=epochs, verbose=0, callbacks=[callback, watch])
    return watch.values


def test_softness_falls_linearly_to_zero(convolutional, make_data, compile_model):
    tweak = tfl.retrain.soft_activations(convolutional, beta=2.0)
    annealing = tfl.callbacks.ActivationAnnealing(begin_step=1, end_step=5)
    values = train(convolutional, make_data("nested"), annealing, compile_model)
    np.testing.assert_allclose(values, [0.5, 0.375, 0.25, 0.125, 0, 0])
    assert tweak.beta == np.inf


def test_factor_falls_linearly_to_zero(convolutional, make_data, compile_model):
    tfl.retrain.ghost_skips(convolutional)
    annealing = tfl.callbacks.GhostSkipAnnealing(end_step=4)
    values = train(convolutional, make_data("nested"), annealing, compile_model)
    np.testing.assert_allclose(values, [0.75, 0.5, 0.25, 0, 0, 0])


def test_frequency_makes_steps(convolutional, make_data, compile_model):
    tfl.retrain.ghost_skips(convolutional)
    annealing = tfl.callbacks.GhostSkipAnnealing(end_step=5, frequency=2)
    values = train(convolutional, make_data("nested"), annealing, compile_model)
    np.testing.assert_allclose(values, [1, 0.6, 0.6, 0.2, 0, 0], rtol=1e-6)


def test_chunks_of_steps_end_at_zero_too(convolutional, make_data, compile_model):
    tfl.retrain.ghost_skips(convolutional)
    annealing = tfl.callbacks.GhostSkipAnnealing(end_step=4)
    data = make_data("nested")
    values = train(
        convolutional, data, annealing, compile_model, run_eagerly=False, steps_per_execution=3
    )
    np.testing.assert_allclose(values, [0.25, 0])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"end_step": 4}, [0.9, 0.9, 0.9, 0, 0, 0]),
        ({"end_step": 0}, 6 * [0]),
        ({"end_epoch": 1}, 6 * [0.9] + 6 * [0]),
        ({"end_epoch": 0}, 6 * [0]),
    ],
)
def test_teacher_is_left_at_a_step_or_epoch(
    arguments, expected, convolutional, make_data, compile_model
):
    teacher = keras.Sequential(
        [keras.Input((6, 6, 2)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    tfl.retrain.distill(convolutional, teacher, alpha=0.9)
    stop = tfl.callbacks.DistillationStop(**arguments)
    data, epochs = make_data("nested"), len(expected) // 6
    values = train(convolutional, data, stop, compile_model, epochs)
    np.testing.assert_allclose(values, expected)


def test_training_that_is_too_short_is_reported(convolutional, make_data, compile_model):
    tfl.retrain.ghost_skips(convolutional)
    annealing = tfl.callbacks.GhostSkipAnnealing(end_step=12)
    with pytest.warns(UserWarning, match=r"step 6, with `end_step` 12: `GhostSkips.factor` is 0.5"):
        train(convolutional, make_data("nested"), annealing, compile_model)


@pytest.mark.parametrize(
    ("callback", "advice"),
    [
        (tfl.callbacks.ActivationAnnealing(4), "soft activations; call `tfl.retrain.soft_act"),
        (tfl.callbacks.GhostSkipAnnealing(4), "ghost skips; call `tfl.retrain.ghost_skips"),
        (tfl.callbacks.DistillationStop(1), "distillation; call `tfl.retrain.distill"),
    ],
)
def test_model_without_the_tweak_is_refused(
    callback, advice, convolutional, make_data, compile_model
):
    with pytest.raises(ValueError, match=f"must have {advice}"):
        train(convolutional, make_data("nested"), callback, compile_model)


def test_wrong_arguments_are_named():
    for callback in (tfl.callbacks.ActivationAnnealing, tfl.callbacks.GhostSkipAnnealing):
        with pytest.raises(ValueError, match="`end_step` must be above `begin_step`, 5"):
            callback(5, begin_step=5)
        with pytest.raises(ValueError, match="`begin_step` must be an integer >= 0"):
            callback(5, begin_step=-1)
        with pytest.raises(ValueError, match="`end_step` must be an integer > 0"):
            callback(2.5)
        with pytest.raises(ValueError, match="`frequency` must be an integer > 0"):
            callback(5, frequency=0)
    with pytest.raises(ValueError, match="exactly one must be given"):
        tfl.callbacks.DistillationStop()
    with pytest.raises(ValueError, match="exactly one must be given"):
        tfl.callbacks.DistillationStop(end_epoch=1, end_step=1)
    with pytest.raises(ValueError, match="`end_epoch` must be an integer >= 0"):
        tfl.callbacks.DistillationStop(end_epoch=-1)


def test_searches_rewind_the_tweaks_with_the_weights(convolutional, make_data, compile_model):
    tweak, starts = tfl.retrain.ghost_skips(convolutional), []

    def remember(batch, logs=None):
        if batch == 0:
            starts.append([ops.convert_to_numpy(v).copy() for v in tweak.variables])

    search = tfl.callbacks.IterativeMagnitudePruning(levels=1, epochs_per_level=1, verbose=0)
    compile_model(convolutional).fit(
        *make_data("nested"),
        epochs=2,
        verbose=0,
        callbacks=[
            search,
            tfl.callbacks.GhostSkipAnnealing(1),
            keras.callbacks.LambdaCallback(on_train_batch_begin=remember),
        ],
    )
    for first, second in zip(*starts, strict=True):
        np.testing.assert_array_equal(first, second)
    assert float(ops.convert_to_numpy(tweak.factor)) == 0


def test_restored_weights_of_an_earlier_time_are_reported(convolutional, make_data, compile_model):
    tweak = tfl.retrain.ghost_skips(convolutional)

    class Restore(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            tweak.factor.assign(0.5)

    compile_model(convolutional)
    with pytest.warns(UserWarning, match="GhostSkips.factor` is 0.5.*restored weights of an earl"):
        convolutional.fit(
            *make_data("nested"),
            verbose=0,
            callbacks=[Restore(), tfl.callbacks.GhostSkipAnnealing(1)],
        )


def test_optimizer_beyond_the_end_is_reported(convolutional, make_data, compile_model):
    data = make_data("nested")
    compile_model(convolutional).fit(*data, batch_size=4, verbose=0)
    tweak = tfl.retrain.soft_activations(convolutional)
    with pytest.warns(UserWarning, match="optimizer is at step 6.*Compile the model anew"):
        annealing = tfl.callbacks.ActivationAnnealing(5)
        convolutional.fit(*data, batch_size=4, verbose=0, callbacks=[annealing])
    assert tweak.beta == np.inf


@pytest.mark.backend
def test_a_compiled_outer_model_gets_the_tweak(convolutional, make_data):
    outer = keras.Sequential([keras.Input((6, 6, 2)), convolutional])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    outer.compile(SGD(0.0), loss)
    (x, y), how = make_data("nested"), {"batch_size": 24, "verbose": 0}
    before = outer.fit(x, y, **how).history["loss"][0]
    tfl.retrain.soft_activations(convolutional, beta=0.5)
    expected = float(ops.convert_to_numpy(loss(y, outer(x))))
    annealing = tfl.callbacks.ActivationAnnealing(9, frequency=9, sparse_model=convolutional)
    with pytest.warns(UserWarning, match="the tweak still changes the model"):
        [found] = outer.fit(x, y, **how, callbacks=[annealing]).history["loss"]
    assert abs(before - expected) > 1e-3
    assert found == pytest.approx(expected, rel=1e-4)
