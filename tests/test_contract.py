"""What every algorithm promises, for every kind of model, precision and mode of training."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.retrain.ghost_skips import find_convolutions
from tf_lottery.retrain.soft_activations import find_rectifiers

KINDS = ["dense", "nested", "recurrent", "attention", "subclassed", "dict_inputs"]
PRECISIONS = ["float32", "mixed_float16", "mixed_bfloat16"]
MODES = {
    "eager": {"run_eagerly": True},
    "jit": {"jit_compile": True},
    "chunks": {"steps_per_execution": 3},
    "jit_chunks": {"jit_compile": True, "steps_per_execution": 3},
}
BATCH_SIZE, STEPS_PER_EPOCH, EPOCHS = 4, 6, 3


def iterative_magnitude_pruning(**kwargs):
    return tfl.callbacks.IterativeMagnitudePruning(
        levels=2, epochs_per_level=1, rate=0.5, rewind_to_step=2, verbose=0, **kwargs
    )


def gradual_magnitude_pruning():
    schedule = tfl.sparsity.Polynomial(final_value=0.75, begin_step=2, end_step=12)
    return tfl.callbacks.GradualMagnitudePruning(schedule, frequency=3)


def continuous_sparsification(mode):
    def make(**kwargs):
        arguments = {"epochs_per_round": 1, "rounds": 2, "retrain_epochs": 1, **kwargs}
        return tfl.callbacks.ContinuousSparsification(
            **arguments,
            mode=mode,
            target_density=1 - FINAL_SPARSITY,
            exact_density=True,
            verbose=0,
        )

    return make


def dynamic(method, **kwargs):
    return lambda: method(frequency=3, drop_fraction=0.4, end_step=16, **kwargs)


class Retraining(keras.callbacks.CallbackList):
    """Anneals the tweaks that the model has."""

    def __init__(self):
        self.annealings = {
            "soft_activations": tfl.callbacks.ActivationAnnealing(12, begin_step=2),
            "ghost_skips": tfl.callbacks.GhostSkipAnnealing(14, begin_step=3, frequency=2),
            "distillation": tfl.callbacks.DistillationStop(end_step=13),
        }
        super().__init__(list(self.annealings.values()))

    def set_model(self, model):
        if model:
            self.callbacks = [self.annealings[tweak.name] for tweak in model.masked.tweaks]
        super().set_model(model)


ALGORITHMS = {
    "imp": iterative_magnitude_pruning,
    "gmp": gradual_magnitude_pruning,
    "rigl": dynamic(tfl.callbacks.RigL),
    "rigl_sum": dynamic(tfl.callbacks.RigL, grad_accumulation=2, grow_init="gradient"),
    "set": dynamic(tfl.callbacks.SET),
    "snfs": dynamic(tfl.callbacks.SNFS),
    "snfs_moving": dynamic(tfl.callbacks.SNFS, redistribution=True),
    "cs": continuous_sparsification("ticket"),
    "cs_prune": continuous_sparsification("prune"),
    "retraining": Retraining,
}
FINAL_SPARSITY = 0.75
SOFT = ("cs", "cs_prune")
# Their masks stay.
STATIC = ("retraining",)
DENSE_AT_FIRST = ("imp", "gmp", *SOFT)
# These go on from a directory of their own, and not from the model alone.
SEARCHES = ("imp", *SOFT)
# It passes every combination on TensorFlow. There and elsewhere each of the others, which share its
# code, takes a part of the combinations, so that together they meet nearly all.
THOROUGH = ("imp",) if keras.backend.backend() == "tensorflow" else ()


def combinations(*axes):
    """Returns algorithms with elements of `axes`, a part for each that is not thorough."""
    found = []
    for i, algorithm in enumerate(ALGORITHMS):
        for combination in itertools.product(*(list(enumerate(axis)) for axis in axes)):
            indices, values = zip(*combination, strict=True)
            if algorithm in THOROUGH or (sum(indices) + i) % max(map(len, axes)) == 0:
                found.append((algorithm, *values))
    return found


def start(algorithm, model, pattern="unstructured"):
    """Returns the sparse model that an algorithm starts from."""
    if algorithm in SOFT:
        return tfl.sparsify(model, gate=tfl.SoftGate(learning_rate_multiplier=10.0))
    sparsity = 0.0 if algorithm in DENSE_AT_FIRST else FINAL_SPARSITY
    sparse = tfl.sparsify(model, sparsity, pattern=pattern, scores="random")
    if algorithm == "retraining":
        add_tweaks(sparse)
    return sparse


def add_tweaks(model):
    """Adds the tweaks that the model can have."""
    if find_rectifiers(model):
        tfl.retrain.soft_activations(model)
    if find_convolutions(model)[0]:
        tfl.retrain.ghost_skips(model)
    inputs = getattr(model.model, "inputs", None) or ()
    if len(inputs) == 1:
        x = keras.Input(inputs[0].shape[1:], dtype=inputs[0].dtype)
        features = x if "float" in x.dtype else layers.Embedding(11, 2)(x)
        head = layers.Dense(3, dtype="float32", kernel_initializer=keras.initializers.Ones())
        outputs = head(layers.Flatten()(features))
        tfl.retrain.distill(model, keras.Model(x, outputs), temperature=2)


class ZeroWatch(keras.callbacks.Callback):
    """Remembers after every batch which survivors moved, by sign."""

    def __init__(self):
        super().__init__()
        self.before = None
        self.batches = 0
        self.moved = {"positive": set(), "negative": set()}

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        kernels, masks = self.model.get_kernels(), self.model.get_masks()
        if self.before is not None:
            for path, kernel in kernels.items():
                changed = (kernel != self.before[path]) & masks[path] & (self.before[path] != 0)
                if np.any(changed & (self.before[path] > 0)):
                    self.moved["positive"].add(path)
                if np.any(changed & (self.before[path] < 0)):
                    self.moved["negative"].add(path)
        self.before = kernels


def train(model, data, callbacks, epochs=EPOCHS, **kwargs):
    x, y = data
    return model.fit(
        x,
        y,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
        **kwargs,
    )


def check_promises(
    algorithm, kind, make_model, make_data, compile_model, pattern="unstructured", **mode
):
    plain = make_model(kind)
    model = compile_model(start(algorithm, plain, pattern), **mode)
    data = make_data(kind)
    watch, masks_before = ZeroWatch(), model.get_masks()
    train(model, data, [ALGORITHMS[algorithm](), watch])
    masks = model.get_masks()
    changed = any(np.any(masks[path] != masks_before[path]) for path in masks)
    assert changed == (algorithm not in STATIC)
    kept, size = (sum(map(count, masks.values())) for count in (np.count_nonzero, np.size))
    expected = (1 - FINAL_SPARSITY) * size
    if algorithm not in DENSE_AT_FIRST:
        expected = sum(map(np.count_nonzero, masks_before.values()))
    assert abs(kept - expected) <= 1
    matrices = model.to_matrices(model.get_masks())
    assert all(model.pattern.holds(matrix) for matrix in matrices.values())
    assert watch.batches == EPOCHS * STEPS_PER_EPOCH // mode.get("steps_per_execution", 1)
    paths = set(model.kernels)
    assert watch.moved["positive"] | watch.moved["negative"] == paths
    assert watch.moved["negative"]
    check_that_pruned_weights_have_no_effect(model, data[0])
    called, predicted = model(data[0]), model.predict(data[0], verbose=0)
    stripped = tfl.strip(model)
    assert stripped is plain
    np.testing.assert_array_equal(stripped(data[0]), called)
    # Graph optimizations round half precision differently in differently shaped graphs.
    tolerance = 1e-6 if keras.config.dtype_policy().name == "float32" else 1e-2
    np.testing.assert_allclose(stripped.predict(data[0], verbose=0), predicted, atol=tolerance)
    zeros = sum(np.sum(keras.ops.convert_to_numpy(k) == 0) for k in model.kernels.values())
    assert zeros >= size - kept


def check_that_pruned_weights_have_no_effect(model, x):
    """Changes what the masks hide: neither training nor inference may notice."""
    before = tfl.Snapshot(model)
    outputs = [model(x, training=True), model(x, training=False)]
    before.restore(model)
    for kernel, mask in zip(model.masked.kernels, model.masked.get_masks(), strict=True):
        kernel.assign(keras.ops.convert_to_numpy(kernel) + 1e3 * ~mask)
    for output, training in zip(outputs, (True, False), strict=True):
        np.testing.assert_array_equal(model(x, training=training), output)
    before.restore(model)


def skip_if_impossible(kind, precision):
    if (kind, precision, keras.backend.backend()) == ("attention", "mixed_float16", "jax"):
        pytest.skip("JAX has no float16 attention on the CPU")


@pytest.mark.parametrize(
    ("algorithm", "kind", "precision"), combinations(KINDS, PRECISIONS), indirect=["precision"]
)
def test_every_model_in_every_precision(
    algorithm, kind, precision, make_model, make_data, compile_model
):
    skip_if_impossible(kind, precision)
    check_promises(algorithm, kind, make_model, make_data, compile_model)


@pytest.mark.parametrize(("algorithm", "kind", "mode"), combinations(KINDS, MODES))
def test_every_model_in_every_mode(algorithm, kind, mode, make_model, make_data, compile_model):
    if keras.backend.backend() == "jax" and mode.startswith("jit"):
        pytest.skip("JAX compiles in all modes but eager")
    check_promises(algorithm, kind, make_model, make_data, compile_model, **MODES[mode])


@pytest.mark.parametrize(("algorithm", "kind"), combinations(["nested", "subclassed"]))
def test_mixed_precision_compiled_in_chunks(
    algorithm, kind, make_model, make_data, compile_model, request
):
    before = keras.config.dtype_policy()
    request.addfinalizer(lambda: keras.config.set_dtype_policy(before))
    keras.config.set_dtype_policy("mixed_float16")
    check_promises(
        algorithm,
        kind,
        make_model,
        make_data,
        compile_model,
        jit_compile=True,
        steps_per_execution=2,
    )


@pytest.mark.parametrize("algorithm", ["imp", "gmp", "rigl", "set", "snfs"])
@pytest.mark.parametrize("pattern", ["2:4", "4x1"])
def test_patterns(algorithm, pattern, make_model, make_data, compile_model):
    check_promises(algorithm, "nested", make_model, make_data, compile_model, pattern)


@pytest.mark.parametrize(
    ("algorithm", "kind"), combinations(["nested", "recurrent", "attention", "subclassed"])
)
def test_stripped_model_saves_as_a_plain_model(
    algorithm, kind, make_model, make_data, compile_model, tmp_path
):
    model = compile_model(start(algorithm, make_model(kind)))
    data = make_data(kind)
    train(model, data, [ALGORITHMS[algorithm]()])
    tfl.strip(model).save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    assert type(loaded) is type(model.model)
    np.testing.assert_array_equal(
        loaded.predict(data[0], verbose=0), model.predict(data[0], verbose=0)
    )


@pytest.mark.parametrize(
    ("algorithm", "kind"), [case for case in combinations(KINDS) if case[0] not in SEARCHES]
)
def test_saved_model_goes_on_as_if_it_had_never_stopped(
    algorithm, kind, make_model, make_data, compile_model, tmp_path
):
    data = make_data(kind)
    model = compile_model(start(algorithm, make_model(kind)))
    train(model, data, [ALGORITHMS[algorithm]()], epochs=1)
    model.save(tmp_path / "sparse.keras")
    loaded = keras.saving.load_model(tmp_path / "sparse.keras")
    for either in (model, loaded):
        train(either, data, [ALGORITHMS[algorithm]()], epochs=2)
    assert_equal_state(model, loaded)
    assert model.sparsity == pytest.approx(FINAL_SPARSITY, abs=0.02)


class Kill(keras.callbacks.Callback):
    """Stops training as a signal would, with nothing after it."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_train_batch_end(self, batch, logs=None):
        self.batches -= 1
        if self.batches == 0:
            raise KeyboardInterrupt


LONG_ROUNDS = {"epochs_per_round": 2, "rewind_to_epoch": 1}


@pytest.mark.parametrize(
    ("algorithm", "kind", "options", "batches"),
    [
        ("imp", "nested", {"rewind": "weights"}, 1),
        ("imp", "subclassed", {"rewind": "weights"}, 1),
        ("imp", "nested", {"rewind": "learning_rate"}, 9),
        ("imp", "subclassed", {"rewind": "learning_rate"}, 9),
        ("imp", "nested", {"rewind": "weights"}, 17),
        ("imp", "subclassed", {"rewind": "weights"}, 17),
        ("cs", "subclassed", {}, 3),
        ("cs", "nested", LONG_ROUNDS, 20),
        ("cs", "subclassed", {}, 15),
        ("cs_prune", "subclassed", {}, 9),
    ],
)
def test_killed_search_ends_with_the_same_weights(
    algorithm, kind, options, batches, make_model, make_data, compile_model, tmp_path
):
    data = make_data(kind)

    def search_in(directory, *others):
        model = compile_model(start(algorithm, make_model(kind)))
        search = ALGORITHMS[algorithm](directory=directory, **options)
        train(model, data, [*others, search], epochs=search.epochs)
        return model, search

    whole, expected = search_in(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        search_in(tmp_path / "killed", Kill(batches))
    resumed, search = search_in(tmp_path / "killed")
    again, finished = search_in(tmp_path / "killed")
    for model, found in ((resumed, search), (again, finished)):
        assert_equal_state(whole, model)
        assert found.history == expected.history
        pairs = list(zip(found.tickets, expected.tickets, strict=True))
        assert len(pairs) == (3 if algorithm == "imp" else 2)
        for ticket, twin in pairs:
            assert ticket.overlap(twin) == 1
            weights = zip(ticket.weights.values(), twin.weights.values(), strict=True)
            for weight, twin_weight in weights:
                np.testing.assert_array_equal(weight, twin_weight)


@pytest.mark.parametrize("batches", [5, 14])
@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if a not in SEARCHES])
def test_killed_training_ends_with_the_same_weights(
    algorithm, batches, make_model, make_data, compile_model, tmp_path
):
    data = make_data("subclassed")

    def train_in(directory, *others):
        model = compile_model(start(algorithm, make_model("subclassed")))
        backup = keras.callbacks.BackupAndRestore(directory, delete_checkpoint=False)
        train(model, data, [backup, ALGORITHMS[algorithm](), *others])
        return model

    whole = train_in(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_in(tmp_path / "killed", Kill(batches))
    assert_equal_state(whole, train_in(tmp_path / "killed"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_seed_same_result(algorithm, make_model, make_data, compile_model):
    models = []
    for _ in range(2):
        model = compile_model(start(algorithm, make_model("nested")))
        train(model, make_data("nested"), [ALGORITHMS[algorithm]()])
        models.append(model)
    assert_equal_state(*models)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_devices_keep_the_same_zeros(algorithm, make_model, make_data, compile_model):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("MirroredStrategy belongs to TensorFlow")
    import tensorflow as tf

    devices = tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        pytest.skip("needs two logical devices; test_backends.py provides them")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    with strategy.scope():
        check_promises(algorithm, "nested", make_model, make_data, compile_model)


def assert_equal_state(model, other):
    metrics = {id(variable) for variable in model.metrics_variables}
    for variable, twin in zip(
        [*model.variables, *model.optimizer.variables],
        [*other.variables, *other.optimizer.variables],
        strict=True,
    ):
        value, expected = map(keras.ops.convert_to_numpy, (twin, variable))
        if id(variable) not in metrics:
            np.testing.assert_array_equal(value, expected, err_msg=variable.path)
