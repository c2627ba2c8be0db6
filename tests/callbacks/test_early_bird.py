import functools

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import EarlyBird
from tf_lottery.callbacks.early_bird import mask_distance
from tf_lottery.experiments.checkpoint import Checkpoint
from tf_lottery.optimizers import training_step
from tf_lottery.sparsity import distributions


@pytest.fixture
def make(make_model, compile_model):
    """Returns a function that compiles a sparse model whose masks settle slowly."""

    def make(rate=0.02, **kwargs):
        model = tfl.sparsify(make_model(), **kwargs)
        return compile_model(model, keras.optimizers.SGD(rate, momentum=0.9), run_eagerly=False)

    return make


def train(model, data, callbacks, epochs=30, **kwargs):
    kwargs = {"batch_size": 8, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(*data, epochs=epochs, callbacks=callbacks, **kwargs)


def assert_same(first, second):
    for one, other in ((first.weights, second.weights), (first.masks, second.masks)):
        for a, b in zip(one.values(), other.values(), strict=True):
            np.testing.assert_array_equal(a, b)


class Masks(keras.callbacks.Callback):
    """Records at the end of every epoch the masks that `tfl.prune` would set."""

    def __init__(self, **kwargs):
        super().__init__()
        self.kwargs, self.masks = kwargs, []

    def on_epoch_end(self, epoch, logs=None):
        before = self.model.get_masks()
        state = tfl.Snapshot(self.model)
        self.masks.append(tfl.prune(self.model, **self.kwargs))
        state.restore(self.model)
        assert all((m == before[p]).all() for p, m in self.model.get_masks().items())


def distances_of(masks, window):
    flat = [np.concatenate([mask.reshape(-1) for mask in found.values()]) for found in masks]
    return [
        [np.mean(flat[i] != flat[j]) for j in range(max(0, i - window + 1), i)]
        for i in range(len(flat))
    ]


@pytest.mark.parametrize(
    "how",
    [
        {"sparsity": 0.5},
        {"sparsity": 0.4, "scope": "layer"},
        {"sparsity": 0.5, "pattern": "2x1"},
        {"sparsity": 0.6, "scope": "layer", "distribution": "erk"},
        {"sparsity": 0.5, "scores": "movement"},
        {"sparsity": 0.5, "scope": "global", "floor": 16},
    ],
)
def test_distances_of_the_masks_that_pruning_would_give(make, make_data, how):
    model = make(0.1)
    if how.get("scores") == "movement":
        how = {**how, "initial": tfl.Snapshot(model)}
    masks = Masks(**how)
    search = EarlyBird(**how, threshold=0.0, window=3)
    train(model, make_data(), [masks, search], epochs=4)
    expected = distances_of(masks.masks, 3)
    assert [len(found) for found in search.distances] == [len(found) for found in expected]
    assert sum(search.distances, []) == pytest.approx(sum(expected, []))
    assert max(sum(expected, [])) > 0
    assert model.density == 1.0


def test_draws_when_the_window_agrees_and_stops(make, make_data):
    model = make()
    search = EarlyBird(sparsity=0.5, threshold=0.02, window=3)
    history = train(model, make_data(), [search])
    epoch = search.epoch
    assert history.epoch[-1] == epoch and 3 <= epoch < 29
    assert [max(found, default=1) <= 0.02 for found in search.distances[2:]] == [
        *[False] * (epoch - 2),
        True,
    ]
    assert history.history["mask_distance"] == [max(found) for found in search.distances[1:]]
    assert search.has_ended
    assert search.ticket.density == 0.5
    assert search.ticket.provenance["epoch"] == epoch
    assert search.ticket.provenance["step"] == training_step(model.optimizer) == 3 * (epoch + 1)
    for path, weight in tfl.Snapshot(model).weights.items():
        np.testing.assert_array_equal(search.ticket.weights[path], weight)
    expected = tfl.prune(model, 0.5)
    for path, mask in search.ticket.masks.items():
        np.testing.assert_array_equal(mask, expected[path])


def test_only_looks_if_asked(make, make_data):
    model = make()
    search = EarlyBird(sparsity=0.5, threshold=0.02, window=3, stop_training=False)
    train(model, make_data(), [search])
    stopped = EarlyBird(sparsity=0.5, threshold=0.02, window=3)
    train(make(), make_data(), [stopped])
    assert len(search.distances) == 30
    assert search.epoch == stopped.epoch
    assert_same(search.ticket, stopped.ticket)


def test_a_model_that_is_sparse_already(make, make_data):
    model = make(sparsity=0.25)
    search = EarlyBird(sparsity=0.5, window=2)
    train(model, make_data(), [search])
    assert model.density == 0.75 and search.ticket.density == 0.5
    for path, mask in search.ticket.masks.items():
        assert not (mask & ~model.get_masks()[path]).any()


def test_every_fit_is_a_new_search(make, make_data):
    model = make()
    search = EarlyBird(sparsity=0.5, threshold=0.02, window=3)
    train(model, make_data(), [search])
    train(model, make_data(), [search], epochs=2)
    assert [len(found) for found in search.distances] == [0, 1]
    assert (search.ticket, search.epoch) == (None, None)


class Killed(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


# Killed in the second-to-last and in the last epoch.
@pytest.mark.parametrize(
    "shift",
    [pytest.param(4, marks=pytest.mark.thorough("is resumed as with 1, but trains longer")), 1, 0],
)
def test_a_killed_search_goes_on_to_the_same_ticket(make, make_data, tmp_path, shift):
    def callbacks(directory):
        directory.mkdir(exist_ok=True)
        search = EarlyBird(0.5, threshold=0.02, window=3, directory=directory / "search")
        return [Checkpoint(directory / "checkpoint.npz"), search]

    whole = callbacks(tmp_path / "a")
    train(make(), make_data(), whole)
    # The search has saved the epoch but the checkpoint has not, so it is trained again.
    killed = callbacks(tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        train(make(), make_data(), [*killed, Killed(whole[1].epoch - shift)])
    assert killed[1].has_ended == (shift == 0)
    again = callbacks(tmp_path / "b")
    model = make()
    train(model, make_data(), again)
    assert again[1].distances == whole[1].distances
    assert again[1].epoch == whole[1].epoch
    stored = tfl.Ticket.load(tmp_path / "b" / "search" / "ticket.npz")
    assert_same(again[1].ticket, whole[1].ticket)
    assert_same(stored, whole[1].ticket)
    # A finished search does not train on.
    step = training_step(model.optimizer)
    ended, model = callbacks(tmp_path / "b"), make()
    train(model, make_data(), ended)
    assert training_step(model.optimizer) == step
    assert ended[1].epoch == whole[1].epoch and ended[1].distances == whole[1].distances


def test_directory_of_another_search(make, make_data, tmp_path):
    train(make(), make_data(), [EarlyBird(0.5, directory=tmp_path)], epochs=1)
    with pytest.raises(ValueError, match="`directory` must be empty .*0.6.*Received.*0.5"):
        train(make(), make_data(), [EarlyBird(0.6, directory=tmp_path)], epochs=1)
    with pytest.raises(ValueError, match="`directory` must be empty .*'random'"):
        train(make(), make_data(), [EarlyBird(0.5, scores="random", directory=tmp_path)], epochs=1)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="`directory` must be a folder"):
        train(make(), make_data(), [EarlyBird(0.5, directory=tmp_path / "file")], epochs=1)


def test_arguments_of_a_distribution_belong_to_the_search(make, make_data, tmp_path):
    def search(dense_first):
        uniform = functools.partial(distributions.uniform, dense_first=dense_first)
        return EarlyBird(0.2, distribution=uniform, directory=tmp_path)

    train(make(), make_data(), [search(True)], epochs=1)
    found = search(True)
    train(make(), make_data(), [found], epochs=2, initial_epoch=1)
    assert len(found.distances) == 2
    with pytest.raises(ValueError, match="`directory` must be empty .*dense_first=False"):
        train(make(), make_data(), [search(False)], epochs=1)


def test_mask_distance():
    first = [np.array([True, True, False]), np.array([[False]])]
    second = [np.array([True, False, True]), np.array([[False]])]
    assert mask_distance(first, second) == 0.5
    assert mask_distance(first, first) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 0.0}, "`sparsity` must be .*=0.0"),
        ({"sparsity": 1.0}, "`sparsity` must be above 0 and below 1. Received: sparsity=1.0"),
        ({"threshold": -0.1}, "`threshold` must be"),
        ({"sparsity": 0.95}, "`threshold` must be below 0.1, .* 0.95 .*Received: threshold=0.1"),
        ({"sparsity": 0.04}, "`threshold` must be below 0.08"),
        ({"window": 1}, "`window` must be an integer >= 2. Received: window=1"),
        ({"scores": "size"}, "`scores` must be"),
        ({"scope": "all"}, "`scope` must be one of"),
        ({"pattern": "2:x"}, "`pattern` must be"),
        ({"floor": -1}, "`floor` must be an integer >= 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        EarlyBird(**{"sparsity": 0.5, **arguments})


def test_what_does_not_fit_the_model(make, make_data, make_model, compile_model):
    data = make_data()
    with pytest.raises(ValueError, match="`distribution`"):
        train(make(), data, [EarlyBird(0.5, distribution="erk", scope="global")])
    with pytest.raises(ValueError, match="need|initial"):
        train(make(), data, [EarlyBird(0.5, scores="movement")])
    with pytest.raises(ValueError, match="soft gates"):
        train(make(gate=tfl.SoftGate()), data, [EarlyBird(0.5)])
    with pytest.raises(ValueError, match="must be a `SparseModel`"):
        train(compile_model(make_model()), data, [EarlyBird(0.5)])
