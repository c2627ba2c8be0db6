import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import IterativeMagnitudePruning
from tf_lottery.experiments.models import lenet_300_100
from tf_lottery.optimizers import training_step


class Watch(keras.callbacks.Callback):
    """Records kernels, batch statistics, optimizer and step before every batch."""

    def __init__(self):
        super().__init__()
        self.kernels, self.statistics, self.optimizer, self.steps = [], [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        model = self.model
        self.kernels.append(model.get_kernels())
        moving = [w for w in model.model.weights if w.name.startswith("moving_")]
        self.statistics.append([keras.ops.convert_to_numpy(w).copy() for w in moving])
        slots = [v for v in model.optimizer.variables if v.name.endswith("momentum")]
        self.optimizer.append([keras.ops.convert_to_numpy(v).copy() for v in slots])
        self.steps.append(training_step(model.optimizer))


@pytest.fixture
def search(make_model, make_data, compile_model):
    """Returns a function that runs a search, 6 steps per epoch; it returns callback and watch."""

    def run(optimizer=None, kind="dense", others=(), **kwargs):
        arguments = {"levels": 2, "epochs_per_level": 2, "rate": 0.5, "verbose": 0, **kwargs}
        callback = IterativeMagnitudePruning(**arguments)
        model = compile_model(tfl.sparsify(make_model(kind)), optimizer, run_eagerly=False)
        watch = Watch()
        x, y = make_data(kind)
        model.fit(
            x, y, batch_size=4, epochs=callback.epochs, shuffle=False, verbose=0,
            callbacks=[callback, watch, *others],
        )  # fmt: skip
        return callback, watch, model

    return run


@pytest.fixture(scope="module")
def finished():
    return {}


@pytest.fixture
def rewound_search(search, finished):
    """The result of one search that many tests read and none changes."""
    if not finished:
        finished[None] = search(rewind_to_step=3)
    return finished[None]


def test_lenet_densities_are_those_of_the_paper(compile_model, published_densities):
    model = compile_model(tfl.sparsify(lenet_300_100(seed=0)))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 28, 28, 1)), rng.integers(0, 10, 8)
    callback = IterativeMagnitudePruning(
        15, 1, rate={"output": 0.1, ".": 0.2}, scope="layer", verbose=0
    )
    model.fit(x, y, epochs=callback.epochs, verbose=0, callbacks=[callback])
    densities = [100 * ticket.density for ticket in callback.tickets]
    assert densities == pytest.approx(published_densities, abs=0.06)
    assert [ticket.level for ticket in callback.tickets] == list(range(16))


def test_levels_start_at_the_rewind_weights_times_the_mask(rewound_search):
    callback, watch, _ = rewound_search
    rewind = watch.kernels[3]
    for level, first_batch in ((1, 12), (2, 24)):
        masks = callback.tickets[level].masks
        for path, kernel in watch.kernels[first_batch].items():
            np.testing.assert_array_equal(kernel, rewind[path] * masks[path])
            np.testing.assert_array_equal(callback.tickets[level].weights[path], rewind[path])


def test_masks_are_nested(rewound_search):
    callback, _, _ = rewound_search
    for before, after in zip(callback.tickets, callback.tickets[1:], strict=False):
        assert all(np.all(before.masks[path] >= after.masks[path]) for path in after.masks)
        assert after.density < before.density


@pytest.mark.parametrize(
    ("arguments", "starts", "epochs"),
    [
        ({}, [0, 0, 0], 6),
        ({"rewind_to_step": 3}, [0, 3, 3], 6),
        ({"rewind_to_step": 7}, [0, 7, 7], 4),
        ({"rewind_to_epoch": 1}, [0, 6, 6], 4),
        ({"rewind_to_epoch": 1, "rewind": "learning_rate"}, [0, 6, 6], 4),
        ({"rewind_to_epoch": 1, "rewind": "none"}, [0, 12, 24], 6),
    ],
)
def test_steps_are_rewound(arguments, starts, epochs, search):
    callback, watch, _ = search(**arguments)
    assert len(watch.steps) == 6 * epochs
    lengths = [12] + [(6 * epochs - 12) // 2] * 2
    firsts = np.cumsum([0, *lengths[:2]])
    assert [watch.steps[first] for first in firsts] == starts
    assert [ticket.provenance["step"] for ticket in callback.tickets[1:]] == starts[1:]
    for first, length in zip(firsts, lengths, strict=True):
        assert np.diff(watch.steps[first : first + length]).tolist() == [1] * (length - 1)


def test_learning_rate_schedule_goes_on_from_the_rewind_step(search):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([5, 8], [0.1, 0.01, 0.001])
    callback, watch, model = search(keras.optimizers.SGD(schedule), rewind_to_step=7)
    assert watch.steps[12] == 7
    rates = [float(schedule(step)) for step in watch.steps[12:18]]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.001, 0.001])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.001)


@pytest.mark.parametrize("rewind", ["learning_rate", "none"])
def test_weights_are_kept_without_weight_rewinding(rewind, search):
    callback, watch, _ = search(rewind=rewind)
    start = watch.kernels[0]
    for path, kernel in watch.kernels[12].items():
        mask = callback.tickets[1].masks[path]
        np.testing.assert_array_equal(kernel, callback.tickets[1].weights[path] * mask)
        assert not np.allclose(kernel[mask], start[path][mask], atol=1e-4)


def test_batch_statistics_are_rewound(search):
    callback, watch, _ = search(kind="nested", rewind_to_step=2, levels=1, epochs_per_level=1)
    assert len(watch.statistics[2]) == 2
    for found, expected, last in zip(*(watch.statistics[i] for i in (6, 2, 5)), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert not np.array_equal(found, last)
    statistics = [path for path in callback.tickets[1].weights if "moving_mean" in path]
    assert statistics
    for path in statistics:
        np.testing.assert_array_equal(
            callback.tickets[1].weights[path], callback.tickets[0].weights[path]
        )


def test_fresh_optimizer_forgets(rewound_search):
    _, watch, _ = rewound_search
    for slots in (watch.optimizer[12], watch.optimizer[24]):
        assert all(not np.any(slot) for slot in slots)
    assert any(np.any(slot) for slot in watch.optimizer[11])


@pytest.mark.parametrize(("rewind", "source"), [("weights", 3), ("learning_rate", None)])
def test_rewound_optimizer_belongs_to_the_weights(rewind, source, search):
    callback, watch, _ = search(rewind_to_step=3, rewind=rewind, optimizer_state="rewound")
    if source is not None:
        kept = {mask.shape: mask for mask in callback.tickets[1].masks.values()}
        for slot, expected in zip(watch.optimizer[12], watch.optimizer[source], strict=True):
            # Momentum of pruned weights is forgotten; biases are not pruned.
            np.testing.assert_array_equal(slot, expected * kept.get(slot.shape, 1))
    else:
        assert all(np.any(slot) for slot in watch.optimizer[12])


def test_chunks_of_steps_rewind_to_a_boundary(make_model, make_data, compile_model):
    callback = IterativeMagnitudePruning(1, 2, rewind_to_step=4, verbose=0)
    model = compile_model(tfl.sparsify(make_model()), run_eagerly=False, steps_per_execution=3)
    model.fit(*make_data(), batch_size=4, epochs=callback.epochs, verbose=0, callbacks=[callback])
    assert callback.tickets[1].provenance["step"] == 6


@pytest.mark.parametrize(
    "is_known",
    [
        pytest.param(True, marks=pytest.mark.thorough("test_step_count.py counts both")),
        False,
    ],
)
def test_levels_are_as_long_if_the_last_execution_of_an_epoch_is_short(
    is_known, make_model, make_data, compile_model
):
    tf = pytest.importorskip("tensorflow")
    callback = IterativeMagnitudePruning(1, 3, rewind_to_step=6, verbose=0)
    model = compile_model(tfl.sparsify(make_model()), run_eagerly=False, steps_per_execution=4)
    batches = tf.data.Dataset.from_tensor_slices(make_data()).batch(4)
    if not is_known:
        batches = batches.filter(lambda *_: True)
    model.fit(batches, epochs=callback.epochs, verbose=0, callbacks=[callback])
    assert callback.steps_per_epoch == 6
    assert [len(level["logs"]["loss"]) for level in callback.history] == [3, 2]


def test_history_has_the_logs_of_every_epoch(rewound_search):
    callback, _, _ = rewound_search
    assert [entry["level"] for entry in callback.history] == [0, 1, 2]
    assert [entry["density"] for entry in callback.history] == [1.0, 0.5, 0.25]
    assert all(len(entry["logs"]["loss"]) == 2 for entry in callback.history)


def test_levels_are_announced(make_model, make_data, compile_model, capsys):
    callback = IterativeMagnitudePruning(1, 1, rate=0.5, verbose=1)
    model = compile_model(tfl.sparsify(make_model()))
    history = model.fit(*make_data(), epochs=callback.epochs, verbose=0, callbacks=[callback])
    assert capsys.readouterr().out.splitlines() == [
        "Level 0/1: density 100.00%, 1 epochs from step 0",
        "Level 1/1: density 50.00%, 1 epochs from step 0",
    ]
    assert history.history["density"] == [1.0, 0.5]


def test_sparse_start_counts_as_level_zero(make_model, make_data, compile_model):
    callback = IterativeMagnitudePruning(2, 1, rate=0.5, verbose=0)
    model = compile_model(tfl.sparsify(make_model(), sparsity=0.5))
    model.fit(*make_data(), epochs=callback.epochs, verbose=0, callbacks=[callback])
    assert [ticket.density for ticket in callback.tickets] == [0.5, 0.25, 0.125]


def test_averaging_optimizer_starts_at_the_rewound_weights(search):
    optimizer = keras.optimizers.SGD(0.0, use_ema=True)
    callback, _, model = search(optimizer, rewind_to_step=3)
    assert model.density == 0.25
    # With a learning rate of zero the averages equal the weights.
    for path, kernel in model.get_kernels().items():
        expected = callback.tickets[2].weights[path] * callback.tickets[2].masks[path]
        np.testing.assert_allclose(kernel, expected, rtol=1e-5)


def test_more_levels_go_on_with_a_finished_search(make_model, make_data, compile_model, tmp_path):
    def run(levels):
        callback = IterativeMagnitudePruning(levels, 1, directory=tmp_path, verbose=0)
        model = compile_model(tfl.sparsify(make_model()))
        history = model.fit(
            *make_data(), epochs=callback.epochs, verbose=0, shuffle=False, callbacks=[callback]
        )
        return callback, len(history.epoch)

    assert run(1)[1] == 2
    callback, epochs = run(3)
    assert epochs == 2
    assert [ticket.level for ticket in callback.tickets] == [0, 1, 2, 3]


def test_fit_after_a_resumed_search_trains(make_model, make_data, compile_model, tmp_path):
    for _ in range(2):
        callback = IterativeMagnitudePruning(1, 1, directory=tmp_path, verbose=0)
        model = compile_model(tfl.sparsify(make_model()))
        model.fit(*make_data(), epochs=callback.epochs, verbose=0, callbacks=[callback])
    assert len(model.fit(*make_data(), epochs=1, verbose=0).epoch) == 1


def test_directory_of_another_search_is_refused(search, tmp_path):
    search(directory=tmp_path, epochs_per_level=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="`directory` must be empty or hold .*'rate': 0.3"):
        search(directory=tmp_path, epochs_per_level=1, rate=0.3)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_damaged_progress_is_refused(search, tmp_path):
    search(directory=tmp_path, levels=1, epochs_per_level=1)
    progress = tmp_path / "search.npz"
    progress.write_bytes(progress.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        search(directory=tmp_path, levels=1, epochs_per_level=1)


def test_short_fit_is_warned_about(make_model, make_data, compile_model):
    callback = IterativeMagnitudePruning(3, 2, verbose=0)
    model = compile_model(tfl.sparsify(make_model()))
    with pytest.warns(UserWarning, match="ended in level 0 of 3, after 2 of 2 epochs"):
        model.fit(*make_data(), epochs=2, verbose=0, callbacks=[callback])


@pytest.mark.parametrize("is_last", [False, True])
def test_masks_that_a_callback_takes_back_are_warned_about(
    is_last, make_model, make_data, compile_model
):
    class TakeBack(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            for mask in self.model.selection.masks:
                mask.assign(np.ones(mask.shape, bool))

    callback = IterativeMagnitudePruning(1, 1, rate=0.5, verbose=0)
    model = compile_model(tfl.sparsify(make_model()))
    with pytest.warns(UserWarning, match="was 0.500 and is 0.000 after training"):
        callbacks = [callback, TakeBack()] if is_last else [TakeBack(), callback]
        model.fit(*make_data(), epochs=callback.epochs, verbose=0, callbacks=callbacks)


def test_level_lengths_of_data_of_unknown_size(make_model, make_data, compile_model):
    x, y = make_data()

    callback = IterativeMagnitudePruning(2, 2, rewind_to_step=7, verbose=0)
    model = compile_model(tfl.sparsify(make_model()))
    on_train_begin = callback.on_train_begin

    def forget_steps(logs=None):
        callback.params["steps"] = None
        on_train_begin(logs)

    callback.on_train_begin = forget_steps
    history = model.fit(x, y, batch_size=4, epochs=callback.epochs, verbose=0, callbacks=[callback])
    assert len(history.epoch) == 4


def test_vector_metrics_are_recorded(make_model, make_data):
    callback = IterativeMagnitudePruning(1, 1, verbose=0)
    model = tfl.sparsify(make_model())
    x, y = make_data()
    labels = keras.utils.to_categorical(y, 3)
    model.compile("sgd", "mse", metrics=[keras.metrics.F1Score()])
    model.fit(x, labels, epochs=callback.epochs, verbose=0, callbacks=[callback])
    assert len(callback.history[1]["logs"]["f1_score"][0]) == 3


def test_learning_rate_goes_back_only_with_the_schedule(search):
    class Halve(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate = self.model.optimizer.learning_rate / 2

    rates = {}
    for rewind in ("weights", "none"):
        callback, _, model = search(keras.optimizers.SGD(1.0), rewind=rewind, others=[Halve()])
        rates[rewind] = float(model.optimizer.learning_rate)
    assert rates == {"weights": 1 / 4, "none": 1 / 64}


def test_directory_that_is_a_file_is_named(search, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="`directory` must be a folder"):
        search(directory=tmp_path / "file")


def test_rewind_step_beyond_the_first_level_is_refused_at_once(search):
    with pytest.raises(ValueError, match="within the first level, which has 12 steps.*: 12|=12"):
        search(rewind_to_step=12)


def test_rate_for_no_kernel_is_refused_at_once(search):
    with pytest.raises(ValueError, match=r"{'ouput': \['.*output/kernel'\]}, of no use"):
        search(rate={"ouput": 0.1, ".": 0.2}, scope="layer")


@pytest.mark.parametrize(("pattern", "name"), [("4x1", "4x1"), (None, "unstructured")])
def test_tickets_name_their_pattern(pattern, name, search):
    callback, _, _ = search(kind="subclassed", pattern=pattern, levels=1, epochs_per_level=1)
    ticket = callback.tickets[-1]
    assert ticket.provenance["pattern"] == name
    holds = [tfl.sparsity.patterns.get("4x1").holds(mask) for mask in ticket.masks.values()]
    assert all(holds) == (name == "4x1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": 0}, "`levels` must be an integer > 0"),
        ({"levels": 1.5}, "`levels`"),
        ({"epochs_per_level": 0}, "`epochs_per_level`"),
        ({"rate": 0.0}, "`rate`"),
        ({"rate": 1.0}, "`rate`"),
        ({"rate": {".": 0.2}, "scope": "global"}, "`rate` must be one number"),
        ({"scope": "gobal"}, "`scope`"),
        ({"scores": "magnitud"}, "`scores`"),
        ({"pattern": "2of4"}, "`pattern`"),
        ({"floor": -1}, "`floor` must be an integer >= 0"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"rewind": "weight"}, "`rewind` must be one of"),
        ({"optimizer_state": "old"}, "`optimizer_state`"),
        ({"rewind_to_step": -1}, "`rewind_to_step`"),
        ({"rewind_to_step": 2.0}, "`rewind_to_step`"),
        ({"rewind_to_epoch": 2}, "`rewind_to_epoch`.*below 2"),
        ({"rewind_to_epoch": True}, "`rewind_to_epoch` must be an integer >= 0"),
        ({"rewind_to_step": 1, "rewind_to_epoch": 1}, "exclude each other"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        IterativeMagnitudePruning(**{"levels": 2, "epochs_per_level": 2, **arguments})


def test_plain_model_is_refused(make_model, make_data, compile_model):
    model = compile_model(make_model())
    with pytest.raises(ValueError, match="`model` must be a `SparseModel`"):
        model.fit(*make_data(), verbose=0, callbacks=[IterativeMagnitudePruning(1, 1)])
