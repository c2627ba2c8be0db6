"""Tests for every algorithm, with every kind of model, precision and mode of training.

A cell is one combination of kind, precision and mode. The quick tier covers all pairs of these,
with different algorithms from cell to cell; the thorough tier runs all combinations. Saving,
killing and the like are quick tests in one cell per algorithm, and thorough tests in the others.
"""

import contextlib
import functools
import itertools

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.retrain._ghost_skips import find_convolutions
from tf_lottery.retrain._soft_activations import find_rectifiers

pytestmark = pytest.mark.backend(every_case=True)

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
ON_TORCH = keras.backend.backend() == "torch"
KINDS = ["dense", "nested", "recurrent", "attention", "subclassed", "dict_inputs"]
PRECISIONS = ["float32", "mixed_float16", "mixed_bfloat16"]
MODES = {
    "graph": {},
    "eager": {"run_eagerly": True},
    "jit": {"jit_compile": True},
    "chunks": {"steps_per_execution": 3},
    "jit_chunks": {"jit_compile": True, "steps_per_execution": 3},
}
IMPOSSIBLE = set()
# XLA compiles the single steps of these two kinds in the quick tier, and the chunks of the others.
THOROUGH = {(kind, "jit_chunks") for kind in ("nested", "subclassed")}
if keras.backend.backend() == "jax":
    # JAX compiles in all modes; in eager mode it compiles every new operation, which takes long.
    MODES = {name: mode for name, mode in MODES.items() if "jit_compile" not in mode}
    # JAX has no float16 attention on the CPU.
    IMPOSSIBLE = {("attention", "mixed_float16")}
if ON_TORCH:
    # PyTorch has no `steps_per_execution`, is eager by default, and compiles a cell in a minute.
    MODES = {"graph": {}}
# The axes of the table of pairs; the sweeps take all.
TABLE_AXES = (KINDS, PRECISIONS, list(MODES))
if keras.backend.backend() == "jax":
    TABLE_AXES = (["dense", "nested", "subclassed"], PRECISIONS[:2], ["graph", "chunks"])
BATCH_SIZE, STEPS_PER_EPOCH, EPOCHS = 4, 6, 3


@pytest.fixture
def compile_model(compile_model):
    """Returns a function that compiles a model, by default for training in a graph."""
    return functools.partial(compile_model, run_eagerly=False)


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
    """Anneals the tweaks of the model."""

    def __init__(self):
        self.annealings = {
            "soft_activations": tfl.callbacks.ActivationAnnealing(12, begin_step=2),
            "ghost_skips": tfl.callbacks.GhostSkipAnnealing(14, begin_step=3, frequency=2),
            "distillation": tfl.callbacks.DistillationStop(end_step=13),
        }
        super().__init__(list(self.annealings.values()))

    def set_model(self, model):
        if model:
            self.callbacks = [self.annealings[tweak.name] for tweak in model.tweaks]
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
# These resume from their own folder, not only from the model.
SEARCHES = ("imp", *SOFT)
# Algorithms that share their code.
FAMILIES = [
    ("imp", "gmp"),
    ("rigl", "rigl_sum", "set", "snfs", "snfs_moving"),
    SOFT,
    ("retraining",),
]
# This algorithm runs all combinations of a sweep on TensorFlow. The others share its code: each
# runs a part of the combinations, so that together they cover nearly all.
SWEPT = ("imp",) if ON_TENSORFLOW else ()
SWEPT_KINDS = ["recurrent_deep" if kind == "recurrent" else kind for kind in KINDS]


def pairs_of(cell):
    return set(itertools.combinations(cell, 2))


def pairwise(*axes):
    """Returns cells, each with one element of every axis, that together cover all pairs.

    Greedy: always takes the cell with the most pairs that are not covered yet.
    """
    excluded = IMPOSSIBLE | THOROUGH
    possible = [cell for cell in itertools.product(*axes) if not pairs_of(cell) & excluded]
    missing, cells = set().union(*map(pairs_of, possible)), []
    while missing:
        cells.append(max(possible, key=lambda cell: len(pairs_of(cell) & missing)))
        missing -= pairs_of(cells[-1])
    return cells


def with_algorithms(cells):
    """Assigns an algorithm to each cell.

    Takes the algorithm whose family has covered the least of a cell so far; ties are broken by the
    algorithm itself.
    """
    met = {name: set() for name in (*FAMILIES, *ALGORITHMS)}
    numbers, found = dict.fromkeys(ALGORITHMS, 0), []
    for cell in map(set, cells):
        new = {
            algorithm: (len(cell - met[family]), len(cell - met[algorithm]), -numbers[algorithm])
            for family in FAMILIES
            for algorithm in family
        }
        algorithm = max(new, key=new.get)
        family = next(family for family in FAMILIES if algorithm in family)
        met[family] |= cell
        met[algorithm] |= cell
        numbers[algorithm] += 1
        found.append(algorithm)
    return [(algorithm, *cell) for algorithm, cell in zip(found, cells, strict=True)]


TABLE = with_algorithms(pairwise(*TABLE_AXES))


def sweep(*axes):
    """Combines algorithms with elements of `axes`: all for those swept fully, else a part."""
    found = []
    for i, algorithm in enumerate(ALGORITHMS):
        for combination in itertools.product(*(list(enumerate(axis)) for axis in axes)):
            indices, values = zip(*combination, strict=True)
            if algorithm in SWEPT or (sum(indices) + i) % max(map(len, axes)) == 0:
                found.append((algorithm, *values))
    return [cell for cell in found if not pairs_of(cell) & IMPOSSIBLE]


def thorough(cases):
    marks = pytest.mark.thorough("a sweep over what the quick tier meets in part")
    return [pytest.param(*case, marks=marks) for case in cases]


def tiers(quick, others, elsewhere=2):
    """Returns quick and thorough cases; elsewhere than on TensorFlow only the first are quick."""
    now = quick if ON_TENSORFLOW else quick[:elsewhere]
    later = []
    for case in [*quick, *others]:
        if case not in [*now, *later]:
            later.append(case)
    return [*now, *thorough(later)]


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
    """Records after every batch which kernels had survivors that moved, by their sign."""

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
    """Trains, checks and strips a sparse model, and returns it."""
    plain = make_model(kind)
    model = compile_model(start(algorithm, plain, pattern), **mode)
    data = make_data(kind)
    watch, masks_before = ZeroWatch(), model.get_masks()
    train(model, data, [ALGORITHMS[algorithm](), watch])
    masks = model.get_masks()
    for path, kernel in model.kernels.items():
        assert not np.any(keras.ops.convert_to_numpy(kernel)[~masks[path]])
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
    # Graph optimizations round half precision differently in different graphs.
    tolerance = 1e-6 if keras.config.dtype_policy().name == "float32" else 1e-2
    np.testing.assert_allclose(stripped.predict(data[0], verbose=0), predicted, atol=tolerance)
    zeros = sum(np.sum(keras.ops.convert_to_numpy(k) == 0) for k in model.kernels.values())
    assert zeros >= size - kept
    return model


def check_that_pruned_weights_have_no_effect(model, x):
    """Changes the pruned weights and checks that training and inference are unaffected."""
    before = tfl.Snapshot(model)
    outputs = [model(x, training=True), model(x, training=False)]
    before.restore(model)
    for kernel, mask in zip(model.wrapper.kernels, model.wrapper.get_masks(), strict=True):
        kernel.assign(keras.ops.convert_to_numpy(kernel) + 1e3 * ~mask)
    for output, training in zip(outputs, (True, False), strict=True):
        np.testing.assert_array_equal(model(x, training=training), output)
    before.restore(model)


def test_table_has_all_pairs():
    for i, j in itertools.combinations(range(3), 2):
        found = {(cell[1 + i], cell[1 + j]) for cell in TABLE}
        possible = set(itertools.product(TABLE_AXES[i], TABLE_AXES[j]))
        assert found == possible - IMPOSSIBLE - THOROUGH
    assert sorted(itertools.chain(*FAMILIES)) == sorted(ALGORITHMS)
    met = {cell[0] for cell in TABLE}
    # The smaller tables of other backends meet every family.
    assert met == set(ALGORITHMS) if ON_TENSORFLOW else all(met & set(f) for f in FAMILIES)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="the table is smaller where there are fewer modes")
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_meets_all_of_the_table(family):
    met = [set(values) for values in zip(*(c for c in TABLE if c[0] in family), strict=True)]
    assert met == [set(family), set(KINDS), set(PRECISIONS), set(MODES)]


@pytest.mark.parametrize(("algorithm", "kind", "precision", "mode"), TABLE, indirect=["precision"])
def test_every_pair(algorithm, kind, precision, mode, make_model, make_data, compile_model):
    check_promises(algorithm, kind, make_model, make_data, compile_model, **MODES[mode])


@pytest.mark.parametrize(
    ("algorithm", "kind", "precision"),
    thorough(sweep(SWEPT_KINDS, PRECISIONS)),
    indirect=["precision"],
)
def test_every_model_in_every_precision(
    algorithm, kind, precision, make_model, make_data, compile_model
):
    check_promises(algorithm, kind, make_model, make_data, compile_model)


@pytest.mark.parametrize(
    ("algorithm", "kind", "mode"),
    thorough(sweep(SWEPT_KINDS, [mode for mode in MODES if mode != "graph"])),
)
def test_every_model_in_every_mode(algorithm, kind, mode, make_model, make_data, compile_model):
    check_promises(algorithm, kind, make_model, make_data, compile_model, **MODES[mode])


@pytest.mark.skipif(ON_TORCH, reason="Keras has no `steps_per_execution` on PyTorch")
@pytest.mark.parametrize("precision", ["mixed_float16"], indirect=True)
@pytest.mark.parametrize(("algorithm", "kind"), thorough(sweep(["nested", "subclassed"])))
def test_mixed_precision_compiled_in_chunks(
    algorithm, kind, precision, make_model, make_data, compile_model
):
    mode = {"jit_compile": True, "steps_per_execution": 2}
    check_promises(algorithm, kind, make_model, make_data, compile_model, **mode)


@pytest.mark.parametrize(
    ("algorithm", "pattern"),
    tiers(
        [("gmp", "2:4"), ("rigl", "4x1")],
        itertools.product(["imp", "gmp", "rigl", "set", "snfs"], ["2:4", "4x1"]),
        elsewhere=0,
    ),
)
def test_patterns(algorithm, pattern, make_model, make_data, compile_model):
    check_promises(algorithm, "nested", make_model, make_data, compile_model, pattern)


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    tiers(
        [
            ("cs", "subclassed"),
            ("imp", "nested"),
            ("snfs", "recurrent"),
        ],
        sweep(["nested", "recurrent_deep", "attention", "subclassed"]),
        elsewhere=1,
    ),
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
    ("algorithm", "kind"),
    tiers(
        [
            ("snfs_moving", "subclassed"),
            ("gmp", "dense"),
            ("rigl_sum", "dict_inputs"),
            ("set", "dense"),
            ("retraining", "dense"),
        ],
        [case for case in sweep(SWEPT_KINDS) if case[0] not in SEARCHES],
    ),
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
    """Aborts training with an exception, as a signal would."""

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
    tiers(
        [
            ("imp", "subclassed", {"rewind": "weights"}, 17),
            ("cs", "subclassed", LONG_ROUNDS, 20),
            ("imp", "dense", {"rewind": "learning_rate"}, 9),
            ("cs_prune", "dense", {}, 9),
        ],
        [
            ("imp", "nested", {"rewind": "learning_rate"}, 9),
            ("cs_prune", "subclassed", {}, 9),
            ("imp", "nested", {"rewind": "weights"}, 1),
            ("imp", "subclassed", {"rewind": "weights"}, 1),
            ("imp", "subclassed", {"rewind": "learning_rate"}, 9),
            ("imp", "nested", {"rewind": "weights"}, 17),
            ("cs", "subclassed", {}, 3),
            ("cs", "nested", LONG_ROUNDS, 20),
            ("cs", "subclassed", {}, 15),
        ],
    ),
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


@pytest.mark.parametrize(
    ("algorithm", "batches"),
    tiers(
        [
            ("rigl_sum", 14),
            ("gmp", 14),
            ("set", 14),
            ("snfs_moving", 14),
            ("retraining", 5),
        ],
        [case for case in itertools.product(ALGORITHMS, (5, 14)) if case[0] not in SEARCHES],
    ),
)
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


# The others draw no random numbers; the tests that kill them show that, too.
@pytest.mark.parametrize(
    ("algorithm", "kind"),
    tiers(
        [("set", "subclassed")],
        [(algorithm, "nested") for algorithm in ALGORITHMS],
        elsewhere=0,
    ),
)
def test_same_seed_same_result(algorithm, kind, make_model, make_data, compile_model):
    models = []
    for _ in range(2):
        model = compile_model(start(algorithm, make_model(kind)))
        train(model, make_data(kind), [ALGORITHMS[algorithm]()])
        models.append(model)
    assert_equal_state(*models)


@pytest.fixture
def two_devices():
    """A strategy with a replica on each of two devices. Without them the test is skipped."""
    if not ON_TENSORFLOW:
        pytest.skip("MirroredStrategy belongs to TensorFlow")
    import tensorflow as tf

    devices = tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        pytest.skip("needs two logical devices; test_backends.py provides them")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    tiers(
        [("rigl", "dense"), ("cs", "nested"), ("retraining", "nested")],
        [(algorithm, "nested") for algorithm in ALGORITHMS],
    ),
)
def test_two_devices_keep_the_same_zeros(
    algorithm, kind, two_devices, make_model, make_data, compile_model
):
    with two_devices.scope():
        model = check_promises(algorithm, kind, make_model, make_data, compile_model)
    for variable in (*model.selection.state(), *model.wrapper.kernels):
        first, second = variable.value.values
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "algorithm",
    ["rigl", pytest.param("snfs", marks=pytest.mark.thorough("RigL collects gradients, too"))],
)
def test_two_devices_train_as_one_does(
    algorithm, two_devices, make_model, make_data, compile_model
):
    found = []
    for scope in (contextlib.nullcontext(), two_devices.scope()):
        with scope:
            optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
            model = compile_model(start(algorithm, make_model()), optimizer)
        before = model.get_masks()
        train(model, make_data(), [ALGORITHMS[algorithm]()])
        assert any(np.any(mask != before[path]) for path, mask in model.get_masks().items())
        found.append((model.get_masks().values(), model.get_kernels().values()))
    for mask, expected in zip(found[1][0], found[0][0], strict=True):
        np.testing.assert_array_equal(mask, expected)
    for kernel, expected in zip(found[1][1], found[0][1], strict=True):
        np.testing.assert_allclose(kernel, expected, rtol=1e-4, atol=1e-6)


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


class Poison(keras.callbacks.Callback):
    """Puts a NaN into a kernel after a given batch, and remembers how each epoch began."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch
        self.starts = {}

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.epoch not in self.starts:
            self.starts[self.epoch] = state_of(self.model)

    def on_train_batch_end(self, batch, logs=None):
        self.batch -= 1
        if self.batch == 0:
            kernel = next(iter(self.model.kernels.values()))
            values = keras.ops.convert_to_numpy(kernel).copy()
            values[0, 0] = np.nan
            kernel.assign(values)


def state_of(model):
    kinds = ("momentum", "velocity", "iteration")
    slots = [v for v in model.optimizer.variables if v.name.endswith(kinds)]
    gates = model.selection.variables if model.has_soft_gates else []
    values = [keras.ops.convert_to_numpy(v).copy() for v in [*gates, *slots]]
    return [*model.get_kernels().values(), *model.get_masks().values(), *values]


@pytest.mark.parametrize(
    ("algorithm",),
    tiers(
        [("imp",), ("gmp",), ("rigl",), ("rigl_sum",), ("cs",), ("retraining",)],
        [(name,) for name in ALGORITHMS],
    ),
)
def test_a_nan_takes_the_epoch_back_and_a_lower_rate_goes_on(
    algorithm, make_model, make_data, compile_model, tmp_path
):
    def new_model(rate):
        optimizer = keras.optimizers.Adam(rate)
        return compile_model(start(algorithm, make_model()), optimizer, run_eagerly=ON_TENSORFLOW)

    options = {"directory": tmp_path} if algorithm in SEARCHES else {}
    # After the last step of the epoch the loss is still finite.
    poison = Poison(STEPS_PER_EPOCH + (3 if algorithm in ("rigl", "cs") else STEPS_PER_EPOCH))
    model = new_model(0.01)
    with pytest.warns(
        UserWarning, match=r"failed in epoch 1: at step \d+ .*/kernel'.*0\.01.*"
    ) as w:
        history = train(model, make_data(), [poison, ALGORITHMS[algorithm](**options)])
    assert sum("Training failed" in str(warning.message) for warning in w) == 1
    assert history.epoch == [0, 1]
    for found, expected in zip(state_of(model), poison.starts[1], strict=True):
        np.testing.assert_array_equal(found, expected)
    if algorithm in SEARCHES:
        model, again = new_model(0.001), {}
    else:
        model.optimizer.learning_rate, again = 0.001, {"initial_epoch": 1}
    history = train(model, make_data(), [ALGORITHMS[algorithm](**options)], **again)
    assert history.epoch == [1, 2]
    assert np.isfinite(history.history["loss"]).all()
    assert float(model.optimizer.learning_rate) == np.float32(0.001)
    assert model.sparsity == pytest.approx(FINAL_SPARSITY, abs=0.02)
