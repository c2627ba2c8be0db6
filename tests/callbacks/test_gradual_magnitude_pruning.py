import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import GradualMagnitudePruning
from tf_lottery.optimizers import training_step
from tf_lottery.sparsity import Constant, Polynomial


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


@pytest.mark.backend
def test_masks_follow_the_schedule(make_model, make_data, compile_model):
    schedule = Polynomial(final_value=0.9, begin_step=2, end_step=11, initial_value=0.2)
    model = compile_model(tfl.sparsify(make_model()))
    pruning = GradualMagnitudePruning(schedule, frequency=4, scope="global")
    found = train(model, make_data(), pruning)
    # Updates after steps 2, 6 and 10, and at the end step 11.
    due = [0, 2, 2, 2, 2, 6, 6, 6, 6, 10, 11, 11]
    expected = [round(schedule(step) * 72) / 72 for step in due]
    assert found == pytest.approx(expected)
    assert found[-1] == round(0.9 * 72) / 72


@pytest.mark.backend
def test_constraints_hold_for_the_weights_that_are_kept():
    layer = keras.layers.Dense(4, kernel_constraint=keras.constraints.UnitNorm())
    model = tfl.sparsify(keras.Sequential([keras.Input((8,)), layer]))
    on_tensorflow = keras.backend.backend() == "tensorflow"
    sgd = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(sgd, "mean_squared_error", run_eagerly=on_tensorflow)
    rng = np.random.default_rng(0)
    data = rng.normal(size=(16, 8)).astype("float32"), rng.normal(size=(16, 4)).astype("float32")
    train(model, data, GradualMagnitudePruning(Polynomial(0.5, end_step=3), frequency=1))
    [kernel] = model.get_kernels().values()
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1.0, rtol=1e-5)


@pytest.mark.parametrize(("floor", "kept"), [(0, [4, 0]), (2, [2, 2])])
def test_floor_is_that_of_pruning(floor, kept, make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model()), keras.optimizers.SGD(0.0))
    list(model.kernels.values())[1].assign(np.full((8, 3), 1e-9))
    pruning = GradualMagnitudePruning(Constant(68 / 72), scope="global", floor=floor)
    train(model, make_data(), pruning, epochs=1)
    assert [np.count_nonzero(mask) for mask in model.get_masks().values()] == kept


def test_every_sparsity_follows_the_distribution(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model()))
    schedule = Polynomial(final_value=0.5, end_step=4)
    train(model, make_data(), GradualMagnitudePruning(schedule, 2, distribution="er"), epochs=1)
    shapes = {path: tuple(kernel.shape) for path, kernel in model.kernels.items()}
    expected = tfl.sparsity.distributions.get("er")(shapes, 0.5)
    assert len(set(expected.values())) == 2
    for path, mask in model.get_masks().items():
        assert np.count_nonzero(~mask) == pytest.approx(expected[path] * mask.size, abs=1)


def test_constant_prunes_once_before_the_first_step(make_model, make_data, compile_model):
    model = compile_model(tfl.sparsify(make_model()))
    found = train(model, make_data(), GradualMagnitudePruning(Constant(0.5)), epochs=1)
    assert found == [0.5] * 6


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras on PyTorch has no `steps_per_execution`"
)
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


@pytest.mark.backend
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
        ({"schedule": 1.5}, "`schedule` must be in"),
        ({"schedule": "0.5"}, "`schedule` must be a number or a schedule"),
        ({"begin_step": 3}, "`begin_step` and `end_step` need a number"),
        ({"schedule": 0.5, "begin_step": 4, "end_step": 4}, "`end_step` must lie after"),
        ({"schedule": 0.5, "begin_step": -1, "end_step": 4}, "`begin_step` must be an integer"),
        ({"schedule": lambda step: 0.5}, "`schedule` must be a number or a schedule"),
        ({"frequency": 0}, "`frequency` must be an integer > 0"),
        ({"scope": "gobal"}, "`scope`"),
        ({"scores": "magnitud"}, "`scores`"),
        ({"pattern": "2of4"}, "`pattern`"),
        ({"schedule": None}, "Exactly one of the arguments `schedule` and `budget`"),
        ({"budget": {"flops": 0.5}}, "Exactly one of the arguments `schedule` and `budget`"),
        ({"schedule": None, "budget": {}}, "`budget` must be a dict"),
        (
            {"schedule": None, "budget": {"flops": 0.5}, "distribution": "erk"},
            "`distribution` must be `None` with `budget`",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        GradualMagnitudePruning(**{"schedule": Constant(0.5), **arguments})


def test_a_number_is_the_end_of_a_schedule_over_three_quarters(
    make_model, make_data, compile_model
):
    model, whole = (compile_model(tfl.sparsify(make_model())) for _ in range(2))
    # Pruning starts at step 6 of 24, after one epoch without pruning.
    schedule = Polynomial(final_value=0.75, begin_step=6 + 2, end_step=6 + 18)
    expected = []
    for steps, sparse in ((expected, whole), (found := [], model)):
        sparse.fit(*make_data(), batch_size=4, verbose=0, shuffle=False)
        callback = GradualMagnitudePruning(
            *((schedule, 3) if sparse is whole else (0.75, 3)),
            **({} if sparse is whole else {"begin_step": 2}),
        )
        steps += train(sparse, make_data(), callback, epochs=4, shuffle=False)
    assert found == expected
    assert found[1] == 0 < found[5] < found[-7] == found[-1] == 0.75


def test_a_training_that_goes_on_keeps_the_schedule_to_a_number(
    make_model, make_data, compile_model
):
    whole, parts = (compile_model(tfl.sparsify(make_model())) for _ in range(2))
    expected = train(whole, make_data(), GradualMagnitudePruning(0.75, 2), shuffle=False)
    found = []

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 0

        def on_train_batch_end(self, batch, logs=None):
            found.append(self.model.sparsity)

    how = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    with pytest.warns(UserWarning, match="before the end of the schedule at step 9"):
        parts.fit(*make_data(), **how, callbacks=[GradualMagnitudePruning(0.75, 2), Stop()])
    callbacks = [GradualMagnitudePruning(0.75, 2), Stop()]
    parts.fit(*make_data(), **how, initial_epoch=1, callbacks=callbacks)
    assert found == expected


def test_a_number_needs_a_known_end(make_model, make_data, compile_model):
    def batches():
        for _ in range(3):
            yield make_data()

    model = compile_model(tfl.sparsify(make_model()))
    with pytest.raises(ValueError, match="`end_step` must be given.*steps per epoch: None"):
        model.fit(batches(), verbose=0, callbacks=[GradualMagnitudePruning(0.5)])
    callback = GradualMagnitudePruning(0.5, end_step=1)
    model.fit(batches(), verbose=0, callbacks=[callback])
    assert model.sparsity == 0.5


class KeepTheFirst(keras.callbacks.Callback):
    """Saves like `ModelCheckpoint(save_best_only=True)` if the first epoch is the best."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.model.save_weights(self.path)


def test_a_best_checkpoint_from_before_the_end_is_warned_of(
    make_model, make_data, compile_model, tmp_path
):
    model = compile_model(tfl.sparsify(make_model()))
    pruning, path = GradualMagnitudePruning(0.75, 2), str(tmp_path / "best.weights.h5")
    last = keras.callbacks.ModelCheckpoint(tmp_path / "last.keras")
    with pytest.warns(UserWarning, match="best.weights.h5' was last written at sparsity 0.722"):
        model.fit(
            *make_data(),
            batch_size=4,
            epochs=2,
            verbose=0,
            callbacks=[pruning, KeepTheFirst(path), last],
        )


@pytest.mark.filterwarnings("error:The file")
@pytest.mark.parametrize("name", ["last.keras", "epoch_{epoch:02d}.keras"])
def test_a_checkpoint_of_the_end_is_not(name, make_model, make_data, compile_model, tmp_path):
    model = compile_model(tfl.sparsify(make_model()))
    # A file from before this training causes no warning.
    model.save(tmp_path / "start.keras")
    save = keras.callbacks.ModelCheckpoint(tmp_path / name)
    how = {"batch_size": 4, "epochs": 2, "verbose": 0}
    model.fit(*make_data(), **how, callbacks=[GradualMagnitudePruning(0.75, 2), save])
    assert list(model.saves.values()) == [0.75]
