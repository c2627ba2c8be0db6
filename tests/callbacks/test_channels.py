"""The methods with channels that several layers make together."""

import keras
import numpy as np
import pytest
from keras import ops

import tf_lottery as tfl
from tf_lottery.callbacks import (
    SET,
    SNFS,
    EarlyBird,
    GradualMagnitudePruning,
    IterativeMagnitudePruning,
    RigL,
)
from tf_lottery.sparsity.schedules import Constant
from tf_lottery.structured.selection import accounting_of


class Watch(keras.callbacks.Callback):
    """Records the channels and the weights of a model before every batch."""

    def __init__(self):
        super().__init__()
        self.kept, self.values = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.kept.append(self.model.kept_channels())
        variables = [*self.model.model.weights, *self.model.optimizer.variables]
        self.values.append({v.path: ops.convert_to_numpy(v).copy() for v in variables})


@pytest.fixture
def train(make_coupled, make_data, compile_model):
    """Returns a function that trains a model of channel groups, 3 steps per epoch."""

    def run(callback, sparsity=0.0, epochs=2, pattern="channel"):
        model, watch = compile_model(make_coupled(pattern)), Watch()
        if sparsity:
            tfl.prune(model, sparsity)
        x, y = make_data("residual")
        model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[callback, watch])
        # The masks of every method are those of whole channels, and compaction removes them.
        for mask in model.to_matrices(model.get_masks(), model.pattern).values():
            assert model.pattern.holds(mask)
        small, _ = tfl.compact(model)
        np.testing.assert_allclose(
            small.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-4
        )
        assert small.get_layer("inner").filters == model.kept_channels()["inner"].sum()
        return model, watch

    return run


def test_gradual_pruning(train):
    schedule = tfl.sparsity.Polynomial(0.5, begin_step=1, end_step=4)
    pruning = GradualMagnitudePruning(schedule, frequency=1, scores="norm_scale")
    model, watch = train(pruning, pattern="channel:2")
    assert [int(kept["inner"].sum()) for kept in watch.kept][::4] == [6, 2]
    assert model.sparsity == pytest.approx(0.5, abs=0.1)


def test_a_training_too_short_for_a_budget_says_what_is_left(train):
    pruning = GradualMagnitudePruning(budget={"flops": 0.5}, frequency=1, end_step=100)
    with pytest.warns(UserWarning, match=r"within {'flops': 0\.\d+} instead of {'flops': 0\.5}"):
        train(pruning)


def test_gradual_pruning_to_a_budget(train):
    pruning = GradualMagnitudePruning(budget={"flops": 0.5}, frequency=1, end_step=4)
    model, watch = train(pruning)
    accounting = accounting_of(model)
    left = [accounting.flops({n: int(k.sum()) for n, k in kept.items()}) for kept in watch.kept]
    left = np.array(left) / accounting.flops({})
    # What is removed after 0, 1, ... 4 steps of 4, and a last step without pruning.
    asked = 0.5 + 0.5 * np.array([1, 27, 8, 1, 0, 0]) / [1, 64, 64, 64, 1, 1]
    assert left[0] == 1
    assert np.all(left <= asked)
    assert np.all(np.diff(left)[:2] < 0)
    # A channel more of either group would exceed the budget.
    kept = {name: int(array.sum()) for name, array in model.kept_channels().items()}
    for name in kept:
        larger = accounting.flops({**kept, name: kept[name] + 1})
        assert larger > 0.5 * accounting.flops({})


@pytest.mark.parametrize(
    ("budget", "pattern", "message"),
    [
        ({"flops": 0.01}, "channel", "`budget` must be at least"),
        ({"flops": 0.5}, "unstructured", "`budget` must be `None` unless whole channels"),
    ],
)
def test_a_budget_that_cannot_be_met_is_refused_before_training(
    budget, pattern, message, make_model, make_data, compile_model
):
    model = compile_model(tfl.sparsify(make_model("residual"), pattern=pattern))
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        model.fit(
            *make_data("residual"),
            verbose=0,
            callbacks=[GradualMagnitudePruning(budget=budget, frequency=100)],
        )
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_iterative_pruning_rewinds_and_makes_tickets(train):
    search = IterativeMagnitudePruning(2, 1, rate=0.5, rewind_to_step=1, verbose=0)
    model, watch = train(search, epochs=search.epochs)
    assert [int(kept["stem"].sum()) for kept in watch.kept[::3]] == [4, 2, 1]
    assert [ticket.density for ticket in search.tickets] == pytest.approx([1, 0.5, 0.25], abs=0.05)
    # What lives starts each level as at the rewind point.
    for step, level in ((3, 1), (6, 2)):
        kept = watch.kept[step]["stem"]
        bias = watch.values[step]["outer/bias"]
        np.testing.assert_array_equal(bias[kept], watch.values[1]["outer/bias"][kept])
        assert not bias[~kept].any(), level


def test_rates_of_channel_groups(train):
    rate = {"^inner": 0.25, ".": 0.5}
    search = IterativeMagnitudePruning(1, 1, rate=rate, verbose=0)
    model, _ = train(search, epochs=search.epochs)
    kept = {name: int(k.sum()) for name, k in model.kept_channels().items()}
    assert kept == {"stem": 2, "inner": 4}


def test_early_bird(train):
    search = EarlyBird(0.5, threshold=0.4, window=2, scores="norm_scale", scope="global")
    model, _ = train(search, epochs=3)
    search.ticket.apply(model)
    assert model.sparsity == pytest.approx(0.5, abs=0.1)
    assert model.pattern.holds(model.to_matrices(model.get_masks(), model.pattern)["stem"])


def test_set_moves_whole_channels(train):
    model, watch = train(SET(2, Constant(0.9), begin_step=2, end_step=5, seed=1), 0.5)
    moved = 0
    # Updates follow the batches 2 and 4.
    for step in (2, 4):
        lived, kept = watch.kept[step - 1], watch.kept[step]
        assert {name: k.sum() for name, k in kept.items()} == {"stem": 2, "inner": 3}
        for group in model.groups:
            new = kept[group.name] & ~lived[group.name]
            moved += np.count_nonzero(new)
            for member in group.kernels:
                weights = np.moveaxis(watch.values[step][member.key], member.axis, 0)
                assert weights[new].all() and not weights[~kept[group.name]].any()
            for member in group.companions:
                assert watch.values[step][member.key][new].all()
    assert moved > 1


def test_new_channels_get_mean_values_and_fresh_slots(make_coupled, compile_model, make_data):
    from tf_lottery.growth import move_connections, new_channel_values
    from tf_lottery.training import Training

    model = compile_model(make_coupled(), keras.optimizers.SGD(0.1, momentum=0.9))
    tfl.prune(model, 0.5)
    x, y = make_data("residual")
    model.fit(x, y, verbose=0)
    inner = model.kept_channels()["inner"]
    masks = {"inner/kernel": np.ones(model.kernels["inner/kernel"].shape, bool)}
    before = {w.path: ops.convert_to_numpy(w).copy() for w in model.model.weights}
    values = new_channel_values(model, np.random.default_rng(0))
    assert move_connections(Training.of(model), masks, values) == 3 * 9 * 4
    after = {w.path: ops.convert_to_numpy(w) for w in model.model.weights}
    for name in (
        "inner/bias",
        "inner_norm/beta",
        "inner_norm/moving_mean",
        "inner_norm/moving_variance",
    ):
        np.testing.assert_array_equal(after[name][inner], before[name][inner])
        np.testing.assert_allclose(after[name][~inner], before[name][inner].mean(), rtol=1e-5)
    kernel = after["inner/kernel"]
    np.testing.assert_array_equal(kernel[..., inner], before["inner/kernel"][..., inner])
    std = before["inner/kernel"][..., inner].std()
    assert kernel[..., ~inner].std() == pytest.approx(std, rel=0.2)
    [slot] = [v for v in model.optimizer.variables if v.path.endswith("inner_bias_momentum")]
    assert not ops.convert_to_numpy(slot)[~inner].any()
    assert ops.convert_to_numpy(slot)[inner].any()


@pytest.mark.parametrize("method", [RigL(2), SNFS(2, redistribution=False), SNFS(2)])
def test_methods_that_grow_by_gradient_are_refused(method, make_coupled, compile_model, make_data):
    model = compile_model(make_coupled())
    tfl.prune(model, 0.5)
    x, y = make_data("residual")
    message = "grows connections by their gradients, and a pruned channel has none.*Received"
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, verbose=0, callbacks=[method])
