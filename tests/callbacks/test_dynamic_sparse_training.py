import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import SET, SNFS, RigL
from tf_lottery.growth import collected_gradients
from tf_lottery.optimizers import slots
from tf_lottery.sparsity.schedules import Constant, Cosine, InversePower

METHODS = {"rigl": RigL, "set": SET, "snfs": SNFS}


class Watch(keras.callbacks.Callback):
    """Calls a function with the model and the number of steps after every batch."""

    def __init__(self, look):
        super().__init__()
        self.look, self.step = look, 0

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self.look(self.model, self.step)


@pytest.fixture
def make_sparse(make_model, compile_model):
    def make(kind="dense", sparsity=0.5, optimizer=None, scores="random", mode=None, **kwargs):
        sparse = tfl.sparsify(make_model(kind), sparsity, scores=scores, **kwargs)
        return compile_model(sparse, optimizer, **(mode or {}))

    return make


def fit(model, data, *callbacks, epochs=1, batch_size=4):
    return model.fit(
        *data,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )


def steps_of_change(model, data, method, epochs):
    """Returns the steps after which the masks had changed."""
    changed, last = [], model.get_masks()

    def look(model, step):
        nonlocal last
        masks = model.get_masks()
        if any(np.any(masks[path] != last[path]) for path in masks):
            changed.append(step)
        last = masks

    fit(model, data, method, Watch(look), epochs=epochs)
    return changed


@pytest.mark.parametrize(
    ("begin_step", "end_step", "frequency", "expected"),
    [
        (0, 10, 3, [3, 6, 9]),
        (0, 9, 3, [3, 6]),
        (2, 9, 3, [2, 5, 8]),
        (0, 100, 5, [5, 10]),
        (4, 5, 7, [4]),
    ],
)
def test_steps_of_updates(begin_step, end_step, frequency, expected, make_sparse, make_data):
    method = SET(frequency, Constant(0.5), begin_step=begin_step, end_step=end_step)
    assert steps_of_change(make_sparse(), make_data(), method, epochs=2) == expected


def test_updates_end_at_three_quarters_of_training(make_sparse, make_data):
    model, data = make_sparse(), make_data()
    method = SET(3, Constant(0.5))
    assert steps_of_change(model, data, method, epochs=4) == [3, 6, 9, 12, 15]
    assert steps_of_change(model, data, method, epochs=2) == [3, 6]


def test_end_of_a_schedule_is_the_end_of_updates(make_sparse, make_data):
    method = SET(2, InversePower(0.9, end_step=7, power=1))
    assert steps_of_change(make_sparse(), make_data(), method, epochs=2) == [2, 4, 6]


def test_training_of_unknown_length_needs_an_end(make_sparse, make_data):
    x, y = make_data()

    def batches():
        while True:
            yield x[:4], y[:4]

    class Forever(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return x[:4], y[:4]

    with pytest.raises(ValueError, match="`end_step` must be given"):
        make_sparse().fit(batches(), epochs=1, verbose=0, callbacks=[SET()])


def test_steps_per_execution_acts_at_the_end_of_a_chunk(make_model, compile_model, make_data):
    sparse = tfl.sparsify(make_model(), 0.5, scores="random")
    model = compile_model(sparse, run_eagerly=False, steps_per_execution=4)
    changes = steps_of_change(model, make_data(size=48), SET(3, Constant(0.5), end_step=9), 1)
    assert changes == [1, 2]  # chunks: steps 4 and 8


def test_drop_fraction_follows_the_cosine(make_sparse, make_data, monkeypatch):
    fractions = []
    original = tfl.sparsity.drop_and_grow

    def spy(weights, mask, scores, drop_fraction, *args):
        fractions.append(drop_fraction)
        return original(weights, mask, scores, drop_fraction, *args)

    monkeypatch.setattr("tf_lottery.callbacks.dynamic_sparse_training.drop_and_grow", spy)
    fit(make_sparse(), make_data(), RigL(frequency=2, drop_fraction=0.4), epochs=2)
    expected = [0.2 * (1 + np.cos(np.pi * step / 9)) for step in (2, 4, 6, 8)]
    np.testing.assert_allclose(fractions[::2], expected)
    assert Cosine(0.4, end_step=9)(4) == pytest.approx(expected[1])


@pytest.mark.parametrize("method", METHODS)
def test_drop_fraction_zero_changes_nothing(method, make_sparse, make_data):
    model = make_sparse()
    assert steps_of_change(model, make_data(), METHODS[method](2, 0.0, end_step=5), epochs=1) == []


@pytest.mark.parametrize(
    ("method", "num_updates"),
    [
        ("rigl", 12),
        ("snfs", 12),
        pytest.param("set", 12, marks=pytest.mark.thorough("counts as RigL does")),
        pytest.param("rigl", 1000, marks=pytest.mark.thorough("makes many steps")),
    ],
)
def test_density_is_constant_over_many_updates(method, num_updates, make_sparse, make_data):
    model = make_sparse(sparsity=0.7, mode={"run_eagerly": False} if num_updates > 100 else None)
    counts = {path: mask.sum() for path, mask in model.get_masks().items()}
    updates = METHODS[method](1, Constant(0.3), end_step=10**6)

    def look(model, step):
        assert {path: mask.sum() for path, mask in model.get_masks().items()} == counts

    fit(model, make_data(size=4 * num_updates), updates, Watch(look))


def several_optimizers():
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("this version of Keras has no MultiOptimizer")
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            keras.optimizers.SGD(0.01, momentum=0.9), {".*hidden.*": keras.optimizers.Adam(0.01)}
        )
    )


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "average": lambda: keras.optimizers.AdamW(0.01, use_ema=True, ema_momentum=0.9),
    "overwritten": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=3),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), 2.0),
    "several": several_optimizers,
}


# All methods share the code that clears slots, so only RigL is tested with every optimizer.
@pytest.mark.parametrize(
    ("method", "optimizer"),
    [
        pytest.param(
            method,
            optimizer,
            marks=[]
            if method == "rigl" or optimizer == "adam"
            else pytest.mark.thorough("clears the same slots as RigL"),
        )
        for method in METHODS
        for optimizer in OPTIMIZERS
    ],
)
def test_new_connections_start_from_nothing(method, optimizer, make_sparse, make_data):
    model = make_sparse(optimizer=OPTIMIZERS[optimizer]())
    before, num_new, num_slots = model.get_masks(), 0, 0

    def look(model, step):
        nonlocal before, num_new, num_slots
        kernels, masks = model.get_kernels(), model.get_masks()
        found = slots(model.optimizer, list(model.kernels.values()))
        for (path, kernel), belonging in zip(kernels.items(), found, strict=True):
            new, kept = masks[path] & ~before[path], masks[path] & before[path]
            assert not np.any(kernel[new])
            assert np.mean(kernel[kept] != 0) > 0.7
            num_new += new.sum()
            for slot in map(keras.ops.convert_to_numpy, belonging.values()):
                assert not np.any(slot[new])
                assert np.mean(slot[kept] != 0) > 0.7
                num_slots += 1
        before = masks

    fit(model, make_data(), METHODS[method](2, 0.4, end_step=11), Watch(look), epochs=2)
    assert num_new > 10
    assert num_slots >= 12


def test_gradient_as_initial_value(make_sparse, make_data, monkeypatch):
    model = make_sparse(optimizer=keras.optimizers.SGD(0.5))
    before = model.get_masks()
    gradients = {}

    def collected(model):
        gradients.update(collected_gradients(model))
        return gradients

    monkeypatch.setattr("tf_lottery.growth.collected_gradients", collected)
    fit(model, make_data(size=4), RigL(1, 0.4, end_step=3, grow_init="gradient"))
    for path, kernel in model.get_kernels().items():
        new = model.get_masks()[path] & ~before[path]
        assert new.any()
        np.testing.assert_allclose(kernel[new], -0.5 * gradients[path][new], rtol=1e-6)


@pytest.mark.backend
def test_gradient_as_initial_value_is_unscaled(make_sparse, make_data):
    kernels = []
    for optimizer in (
        keras.optimizers.SGD(0.5),
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), 64.0),
    ):
        model = make_sparse(optimizer=optimizer)
        fit(model, make_data(size=4), RigL(1, 0.4, end_step=3, grow_init="gradient"))
        kernels.append(model.get_kernels().values())
    for kernel, scaled in zip(*kernels, strict=True):
        np.testing.assert_allclose(kernel, scaled, rtol=1e-5)


# All methods share the code that drops and grows, so only RigL is tested with every pattern.
@pytest.mark.parametrize(
    ("method", "pattern"),
    [
        *(("rigl", pattern) for pattern in ("2:4", "4x1")),
        ("set", "2:4"),
        ("set", "channel"),
        *(
            pytest.param(*cell, marks=pytest.mark.thorough("is met by RigL"))
            for cell in (("set", "4x1"), ("snfs", "2:4"), ("snfs", "4x1"))
        ),
    ],
)
def test_patterns_hold_after_every_update(method, pattern, compile_model, make_data):
    layers = [keras.Input((8,)), keras.layers.Dense(12, "tanh"), keras.layers.Dense(8)]
    model = compile_model(tfl.sparsify(keras.Sequential(layers), 0.5, pattern=pattern))
    counts = {path: mask.sum() for path, mask in model.get_masks().items()}
    seen = set()

    def look(model, step):
        for path, mask in model.get_masks().items():
            assert mask.sum() == counts[path]
            if pattern == "2:4":
                assert np.all(mask.reshape(-1, 4, mask.shape[1]).sum(1) == 2)
            groups = {"4x1": mask.reshape(-1, 4, mask.shape[1]), "channel": mask[None]}
            if pattern in groups:
                kept = groups[pattern].sum(1)
                assert np.all((kept == 0) | (kept == groups[pattern].shape[1]))
            seen.add(mask.tobytes())

    x = np.random.default_rng(0).normal(size=(48, 8)).astype("float32")
    fit(model, (x, np.arange(48) % 3), METHODS[method](1, Constant(0.4), end_step=99), Watch(look))
    assert len(seen) > 2


def test_pattern_of_attention_is_that_of_its_matrices(make_sparse, make_data):
    model = make_sparse("attention", pattern="2x1")
    before = model.to_matrices(model.get_masks())
    fit(model, make_data("attention"), RigL(1, Constant(0.5), end_step=99))
    after = model.to_matrices(model.get_masks())
    assert any(np.any(before[path] != after[path]) for path in before)
    for mask in after.values():
        assert set(np.unique(mask.reshape(-1, 2, mask.shape[1]).sum(1))) <= {0, 2}


def test_kernels_that_are_frozen_or_dense_stay_as_they_are(make_sparse, make_data):
    model = make_sparse(distribution={"hidden": 0.5, "output": 0.0})
    path = next(iter(model.kernels))
    fit(model, make_data(), SET(1, 0.5, end_step=99))
    masks = model.get_masks()
    assert all(masks[p].all() == (p != path) for p in masks)
    model.model.get_layer("hidden").trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match="no zeros in kernels that are trained"):
        fit(model, make_data(), SET(1, 0.5, end_step=99))
    np.testing.assert_array_equal(model.get_masks()[path], masks[path])


def test_model_without_zeros_is_warned_of_at_the_beginning(make_sparse, make_data):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            raise RuntimeError("before the first step")

    model, (x, y) = make_sparse(sparsity=0.0), make_data()
    with (
        pytest.warns(UserWarning, match="no zeros in kernels.*`tfl.sparsify") as warned,
        pytest.raises(RuntimeError, match="before the first step"),
    ):
        model.fit(x, y, batch_size=4, verbose=0, callbacks=[RigL(2, end_step=9), Stop()])
    assert sum("no zeros" in str(warning.message) for warning in warned) == 1


@pytest.mark.backend
def test_gradients_that_are_not_finite_move_nothing(make_sparse, make_data):
    class Overflow(keras.callbacks.Callback):
        """Makes the gradients overflow, as in a step that loss scaling skips."""

        def on_train_batch_end(self, batch, logs=None):
            for gradient in self.model.growth.gradients:
                gradient.assign(np.full(gradient.shape, np.inf))

    model = make_sparse()
    before = model.get_masks()
    with pytest.warns(UserWarning, match="step 2 are not finite"):
        fit(model, make_data(), Overflow(), RigL(2, end_step=5))
    for path, mask in model.get_masks().items():
        np.testing.assert_array_equal(mask, before[path])


def test_logs_of_the_topology(make_sparse, make_data):
    model, seen = make_sparse(), []
    before = start = model.get_masks()
    size = sum(mask.size for mask in start.values())
    active = sum(mask.sum() for mask in start.values())
    ever, replaced = {path: mask.copy() for path, mask in start.items()}, []

    def look(model, step):
        nonlocal before
        masks = model.get_masks()
        if step % 2 == 0 and step < 11:
            replaced.append(sum((masks[p] & ~before[p]).sum() for p in masks) / active)
        for path, mask in masks.items():
            ever[path] |= mask
        before = masks
        if step % 6 == 0:
            seen.append(sum(mask.sum() for mask in ever.values()) / size)

    logs = fit(model, make_data(), RigL(2, end_step=11), Watch(look), epochs=3).history
    assert logs["explored"] == pytest.approx(seen)
    means = [np.mean(replaced[:3]), np.mean(replaced[3:]), 0]
    assert logs["replaced"] == pytest.approx(means)
    assert logs["explored"][0] > active / size


@pytest.mark.backend
@pytest.mark.parametrize("method", METHODS)
def test_collecting_ends_with_training_and_starts_with_the_next(method, make_sparse, make_data):
    def collected():
        return [keras.ops.convert_to_numpy(g).copy() for g in model.growth.gradients]

    model = make_sparse()
    num_trainable = len(model.trainable_variables)
    fit(model, make_data(), METHODS[method](2))
    assert len(model.trainable_variables) == num_trainable
    first = collected()
    assert len(first) == (0 if method == "set" else 2)
    fit(model, make_data())
    assert len(model.trainable_variables) == num_trainable
    assert all(np.array_equal(a, b) for a, b in zip(first, collected(), strict=True))
    fit(model, make_data(), METHODS[method](2))
    assert not any(np.array_equal(a, b) for a, b in zip(first, collected(), strict=True))


def test_interrupted_training_can_go_on_in_any_way(make_sparse, make_data):
    def interrupt(model, step):
        if step == 4:
            raise KeyboardInterrupt

    model, data = make_sparse(), make_data()
    for callbacks in ([], [SNFS(2)], [SET(2)], [RigL(2)]):
        with pytest.raises(KeyboardInterrupt):
            fit(model, data, RigL(2, end_step=100), Watch(interrupt))
        before = model.get_kernels()
        fit(model, data, *callbacks)
        after = model.get_kernels()
        assert all(np.any(before[path] != after[path]) for path in before)
        assert model.sparsity == pytest.approx(0.5)


def test_dense_model_is_warned_about(make_sparse, make_data):
    with pytest.warns(UserWarning, match="prune it first"):
        fit(make_sparse(sparsity=0.0), make_data(), RigL(2))


def test_short_training_is_warned_about(make_sparse, make_data):
    with pytest.warns(UserWarning, match="moved at step 100"):
        fit(make_sparse(), make_data(), RigL(end_step=1000))


def test_mask_that_does_not_follow_the_pattern_is_refused(compile_model):
    data = np.zeros((8, 8)), np.zeros(8)

    def make():
        return keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="head")])

    model = compile_model(tfl.sparsify(make(), 0.5, scores="random"))
    with pytest.raises(ValueError, match="pattern='4x1', but the mask of '.*head/kernel'"):
        fit(model, data, SET(1, end_step=9, pattern="4x1"))
    partly = compile_model(tfl.sparsify(make(), 0.3, pattern="2:4"))
    with pytest.raises(ValueError, match="of density 0.688, does not"):
        fit(partly, data, SET(1, end_step=9))


def test_updates_wait_for_an_accumulating_optimizer(make_sparse, make_data):
    for method in (RigL, SNFS, SET):
        model = make_sparse(optimizer=keras.optimizers.Adam(gradient_accumulation_steps=4))
        method = method(3, Constant(0.5), end_step=12)
        assert steps_of_change(model, make_data(), method, epochs=2) == [4, 8, 12]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"frequency": 0}, "`frequency` must be an integer > 0. Received: frequency=0"),
        ({"frequency": 2.5}, "Received: frequency=2.5"),
        ({"drop_fraction": 1.0}, r"`drop_fraction` must be in \[0, 1\)"),
        ({"drop_fraction": "cosine"}, "`drop_fraction` must be a number"),
        ({"begin_step": -1}, "`begin_step` must be an integer >= 0"),
        ({"end_step": 1e4}, "`end_step` must be an integer >= 0. Received: end_step=10000.0"),
        ({"begin_step": 5, "end_step": 5}, "`end_step` must lie after `begin_step`"),
        ({"pattern": "4y1"}, "`pattern` must be"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_wrong_arguments(method, kwargs, message):
    with pytest.raises(ValueError, match=message):
        METHODS[method](**kwargs)


@pytest.mark.parametrize("method", [RigL, SNFS])
def test_wrong_grow_init(method):
    with pytest.raises(ValueError, match="`grow_init` must be one of"):
        method(grow_init="ones")


def test_seed_is_a_natural_number():
    for seed in (-1, None):
        with pytest.raises(ValueError, match="`seed` must be an integer >= 0"):
            SET(seed=seed)


def test_schedule_that_is_zero_at_once_leaves_the_end_open():
    assert RigL(2, Constant(0.0)).end_step is None


@pytest.mark.parametrize("frequency", [30, 10])
def test_training_too_short_for_any_update_is_warned_about(frequency, make_sparse, make_data):
    with pytest.warns(UserWarning, match=f"No connections will be moved: .* {frequency} steps"):
        fit(make_sparse(), make_data(), RigL(frequency))


def test_training_after_the_end_is_warned_about(make_sparse, make_data):
    model, data = make_sparse(), make_data()
    fit(model, data, RigL(2, end_step=6))
    with pytest.warns(UserWarning, match="before step 6, and training begins at step 6"):
        fit(model, data, RigL(2, end_step=6))


def test_two_methods_at_once_are_refused(make_sparse, make_data):
    for methods in ([RigL(2), SET(2)], [RigL(2), SNFS(2)], [RigL(2), RigL(3)]):
        with pytest.raises(ValueError, match="one method that moves connections"):
            fit(make_sparse(), make_data(), *methods)


# Killed in the second and the third epoch.
@pytest.mark.parametrize(
    ("method", "batches"),
    [
        (SNFS, 14),
        *(
            pytest.param(*case, marks=pytest.mark.thorough("shares the code that counts steps"))
            for case in ((RigL, 8), (RigL, 14), (SNFS, 8))
        ),
    ],
)
def test_skipped_step_does_not_shift_what_follows_a_kill(
    method, batches, make_sparse, make_data, tmp_path
):
    """Step 3 overflows, so the optimizer has made fewer steps than there were batches."""
    x, y = make_data()
    x[8:12] = np.inf

    def train(directory, kill=None):
        model = make_sparse(
            optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), 2.0**15)
        )

        def look(model, step):
            if step == kill:
                raise KeyboardInterrupt

        backup = keras.callbacks.BackupAndRestore(directory, delete_checkpoint=False)
        fit(model, (x, y), backup, method(3), Watch(look), epochs=4)
        return model

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", kill=batches)
    resumed = train(tmp_path / "killed")
    masks = [list(model.get_masks().values()) for model in (whole, resumed)]
    for expected, found in zip(*masks, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_failure_after_a_restart_takes_back_to_the_restart(make_sparse, make_data, tmp_path):
    def train(act):
        model = make_sparse()
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        fit(model, make_data(), Watch(act), SET(2, end_step=18), backup, epochs=3)
        return model

    at_restart = []

    def kill(model, step):
        if step == 13:
            at_restart.extend(model.get_masks().values())
            raise KeyboardInterrupt

    def poison(model, step):
        kernel = next(iter(model.kernels.values()))
        kernel.assign(np.full(kernel.shape, np.nan))

    with pytest.raises(KeyboardInterrupt):
        train(kill)
    with pytest.warns(UserWarning, match="as they were at step 12; .*`initial_epoch=2`"):
        model = train(poison)
    assert int(model.optimizer.iterations) == 12
    assert all(np.isfinite(kernel).all() for kernel in model.get_kernels().values())
    for found, expected in zip(model.get_masks().values(), at_restart, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.backend
@pytest.mark.parametrize(
    "method",
    [
        "rigl",
        "snfs",
        pytest.param("set", marks=pytest.mark.thorough("keeps less than RigL and SNFS")),
    ],
)
def test_callbacks_that_keep_weights(method, make_sparse, make_data, tmp_path):
    model, data = make_sparse(), make_data()
    start, first = model.get_weights(), model.get_masks()
    model.save_weights(tmp_path / "start.weights.h5")
    stop = keras.callbacks.EarlyStopping("loss", restore_best_weights=True, mode="max")
    fit(model, data, METHODS[method](2, end_step=11), stop, epochs=2)
    model.set_weights(start)
    for path, mask in model.get_masks().items():
        np.testing.assert_array_equal(mask, first[path])
    fit(model, data, SET(2), epochs=1)
    model.load_weights(tmp_path / "start.weights.h5")
    for path, mask in model.get_masks().items():
        np.testing.assert_array_equal(mask, first[path])
    with pytest.raises(ValueError, match="`weights` must be 6 arrays"):
        model.set_weights(start[1:])


def test_weights_of_another_method_can_be_loaded(make_sparse, make_data, tmp_path):
    model, data = make_sparse(), make_data()
    fit(model, data, RigL(2, end_step=11))
    model.save_weights(tmp_path / "rigl.weights.h5")
    fit(model, data, SNFS(2, end_step=11))
    assert any(np.any(gradient) for gradient in model.growth.gradients)
    model.load_weights(tmp_path / "rigl.weights.h5")
    assert not any(np.any(gradient) for gradient in model.growth.gradients)


def test_evaluation_collects_nothing(make_sparse, make_data):
    model, (x, y) = make_sparse(), make_data()
    num_trainable = len(model.trainable_variables)
    model.evaluate(x, y, verbose=0, callbacks=[RigL(2)])
    assert len(model.trainable_variables) == num_trainable


def test_freezing_and_thawing_does_not_start_collecting(make_sparse, make_data):
    model = make_sparse()
    fit(model, make_data(), SNFS(2))
    num_trainable = len(model.trainable_variables)
    model.trainable = False
    model.trainable = True
    assert len(model.trainable_variables) == num_trainable
    fit(model, make_data())


def muon():
    if keras.version() < "3.13" and keras.backend.backend() == "tensorflow":
        pytest.skip("Muon of this version of Keras fails on TensorFlow")
    return keras.optimizers.Muon(0.01)


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Ftrl(0.1, l1_regularization_strength=0.01),
        lambda: keras.optimizers.Adagrad(0.1),
        muon,
    ],
    ids=["ftrl", "adagrad", "muon"],
)
def test_unusual_optimizers_stay_finite(make, make_sparse, make_data):
    model = make_sparse(optimizer=make())
    logs = fit(model, make_data(), RigL(2, 0.4, end_step=5)).history
    assert np.all(np.isfinite(logs["loss"]))
    slots_of_first = slots(model.optimizer, list(model.kernels.values()))[0]
    if "accumulator" in slots_of_first:
        assert np.all(np.array(slots_of_first["accumulator"]) >= 0.1)


def test_gradient_as_initial_value_needs_one_learning_rate(make_sparse, make_data):
    model = make_sparse(optimizer=several_optimizers())
    with pytest.raises(ValueError, match="`grow_init` must be 'zeros' with a `MultiOptimizer`"):
        fit(model, make_data(), RigL(2, grow_init="gradient"))


@pytest.mark.parametrize("precision", ["bfloat16"], indirect=True)
def test_average_of_gradients_in_pure_half_precision(precision, compile_model, make_data):
    layers = [keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
    model = tfl.sparsify(keras.Sequential(layers), 0.5, scores="random")
    before = model.get_masks()
    fit(compile_model(model), make_data(), SNFS(2, 0.4, end_step=11))
    after = model.get_masks()
    assert any(np.any(before[path] != after[path]) for path in before)


def wide(sparsity, scores, rate=0.0, **kwargs):
    layers = [keras.Input((64,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)]
    model = tfl.sparsify(keras.Sequential(layers), sparsity, scores=scores, **kwargs)
    model.compile(keras.optimizers.SGD(rate), "mse", run_eagerly=True)
    return model


def warnings_of(model, recwarn, method=None):
    recwarn.clear()
    x, y = np.ones((8, 64), "float32"), np.ones((8, 3), "float32")
    fit(model, (x, y), method or RigL(1, 0.3, end_step=9), epochs=2)
    return [str(w.message) for w in recwarn if "largest of untrained weights" in str(w.message)]


@pytest.mark.parametrize("method", [RigL, SET])
def test_masks_of_the_largest_untrained_weights_are_warned_of_once(recwarn, method):
    (warning,) = warnings_of(wide(0.5, "magnitude"), recwarn, method(1, 0.3, end_step=9))
    assert "scores='random'" in warning and "rescale_to_density" in warning


def test_other_masks_are_not_warned_of(recwarn):
    assert warnings_of(wide(0.5, "random"), recwarn) == []
    # A trained network: its biases differ.
    model = wide(0.5, "magnitude")
    model.model.layers[0].bias.assign(np.arange(16))
    assert warnings_of(model, recwarn) == []
    # A training that goes on.
    model = wide(0.5, "magnitude")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(3)
    assert warnings_of(model, recwarn) == []


@pytest.mark.parametrize("method", [RigL, SET])
def test_a_callback_does_not_redraw_or_rescale_what_it_gets(method):
    model = wide(0.5, "magnitude")
    before = [*model.get_masks().values(), *model.get_kernels().values()]
    x, y = np.ones((8, 64), "float32"), np.ones((8, 3), "float32")
    # The only update comes after the training.
    fit(model, (x, y), method(9, 0.3, end_step=99))
    after = [*model.get_masks().values(), *model.get_kernels().values()]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
