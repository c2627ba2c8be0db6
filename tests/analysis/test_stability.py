import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.analysis._stability import stability
from tf_lottery.optimizers import training_step


@pytest.fixture
def model(make_model, compile_model):
    return compile_model(tfl.sparsify(make_model(), sparsity=0.5), keras.optimizers.Adam(0.05))


def weights(snapshot):
    return list(snapshot.weights.values())


def test_copies_differ_by_the_order_of_the_data(model, make_data):
    data = make_data()
    seen = []

    def train(model, seed):
        state = [np.array(v) for v in (*model.weights, *model.optimizer.variables)]
        seen.append((seed, state))
        order = np.random.default_rng(seed).permutation(24)
        model.fit(data[0][order], data[1][order], batch_size=4, shuffle=False, verbose=0)

    result = stability(model, train, data, seeds=(5, 7), points=3)
    assert [seed for seed, _ in seen] == [5, 7]
    for one, other in zip(seen[0][1], seen[1][1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(
        (a != b).any() for a, b in zip(weights(result.first), weights(result.second), strict=True)
    )
    assert result.first.step == result.second.step == 6
    expected = tfl.interpolate(model, result.first, result.second, data, points=3)
    assert result.connectivity == expected
    assert result.to_dict() == expected.to_dict() and str(result) == str(expected)
    assert result.barrier_loss == expected.barrier_loss
    assert (result.barrier_error, result.is_stable) == (expected.barrier_error, expected.is_stable)


def test_the_model_is_left_as_it_was(model, make_data):
    model.fit(*make_data(), batch_size=8, verbose=0)
    before = tfl.Snapshot(model).to_arrays()
    stability(model, make_data(), make_data(), epochs=1, points=2)
    after = tfl.Snapshot(model).to_arrays()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def batches_seen(model, train, **kwargs):
    """Returns the batches of every epoch of both trainings."""
    seen, fit = [], model.fit

    def spy(batches, callbacks, **kwargs):
        for epoch in range(kwargs["epochs"]):
            callbacks[0].on_epoch_begin(epoch)
            seen.append([batches[i] for i in range(len(batches))])
        return fit(batches, callbacks=callbacks, **kwargs)

    model.fit = spy
    stability(model, train, train[:2], points=2, **kwargs)
    return seen


def numbered():
    return np.arange(24.0)[:, None] * np.ones((1, 6)), np.zeros(24, "int32")


def test_arrays_are_shuffled_by_seed_and_epoch(make_model, compile_model):
    model = compile_model(make_model())
    seen = batches_seen(model, numbered(), seeds=(3, 4), epochs=2, batch_size=9)
    assert [[len(x) for x, _ in epoch] for epoch in seen] == [[9, 9, 6]] * 4
    expected = [
        np.random.default_rng([seed, epoch]).permutation(24).tolist()
        for seed in (3, 4)
        for epoch in (0, 1)
    ]
    assert [np.concatenate([x for x, _ in epoch])[:, 0].tolist() for epoch in seen] == expected
    assert all(x.dtype == keras.config.floatx() for x, _ in seen[0])


def test_sample_weights_follow_their_examples(make_model, compile_model):
    x, y = numbered()
    seen = batches_seen(compile_model(make_model()), (x, y, 2 * x[:, 0]), epochs=1)
    for [(examples, _, sample_weight)] in seen:
        np.testing.assert_array_equal(sample_weight, 2 * examples[:, 0])


def test_averages_replace_weights_only_when_training_ends(make_model, make_data, compile_model):
    x, y = make_data()
    average = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    model = compile_model(make_model(), average)
    result = stability(model, (x, y), (x, y), epochs=3, batch_size=4, points=2)
    for epoch in range(3):
        order = np.random.default_rng([0, epoch]).permutation(24)
        for chosen in np.split(order, 6):
            model.train_on_batch(x[chosen], y[chosen])
    average.finalize_variable_values(model.trainable_variables)
    for found, expected in zip(weights(result.first), model.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_from_a_ticket(make_model, make_data, compile_model):
    source = tfl.sparsify(make_model(), sparsity=0.75)
    ticket = tfl.Ticket.from_model(source, provenance={"step": 40})
    model = compile_model(tfl.sparsify(make_model()))
    begun = []

    def train(model, seed):
        begun.append((model.density, training_step(model.optimizer)))
        model.fit(*make_data(), batch_size=8, shuffle=False, verbose=0)

    result = stability(model, train, make_data(), start=ticket, points=3)
    assert begun == [(0.25, 40), (0.25, 40)]
    assert result.first.step == 43
    # Both copies see the same batches here, so there is no barrier between them.
    assert len(set(result.connectivity.losses)) == 1
    assert result.barrier_loss == 0 and result.is_stable
    assert (model.density, training_step(model.optimizer)) == (1.0, 0)


def test_from_two_starts(model, make_data, make_model):
    starts = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        other = tfl.sparsify(make_model(), sparsity=0.5)
        for kernel in other.kernels.values():
            kernel.assign(rng.normal(size=kernel.shape))
        starts.append(tfl.Ticket.from_model(other))
    begun = []

    def train(model, seed):
        begun.append([np.array(v) for v in model.model.weights])

    stability(model, train, make_data(), start=starts, points=2)
    for found, start in zip(begun, starts, strict=True):
        masked = [w * start.masks.get(p, 1) for p, w in start.weights.items()]
        for one, other in zip(found, masked, strict=True):
            np.testing.assert_array_equal(one, other)


def test_from_a_snapshot(model, make_data):
    model.fit(*make_data(), batch_size=8, verbose=0)
    start = tfl.Snapshot(model)
    model.fit(*make_data(), batch_size=8, verbose=0)
    begun = []
    stability(
        model,
        lambda model, seed: begun.append(tfl.Snapshot(model).to_arrays()),
        make_data(),
        start=start,
        points=2,
    )
    for arrays in begun:
        for name, value in start.to_arrays().items():
            np.testing.assert_array_equal(arrays[name], value)
    assert training_step(model.optimizer) == 6


def test_masks_that_training_moves(model, make_data):
    def train(model, seed):
        tfl.prune(model, 0.8, scores="random", seed=seed)

    result = stability(model, train, make_data(), points=3)
    ends = []
    for seed in (0, 1):
        before = tfl.Snapshot(model)
        train(model, seed)
        ends.append(model.evaluate(*make_data(), verbose=0, return_dict=True)["loss"])
        before.restore(model)
    assert result.connectivity.losses[::2] == pytest.approx(ends[::-1], rel=1e-6)


def test_statistics_of_batch_normalization(make_model, make_data, compile_model):
    model = compile_model(make_model("nested"))
    data = make_data("nested")
    result = stability(model, data, data, epochs=1, points=3, batches=data)
    assert np.isfinite(result.connectivity.losses).all()


def test_restores_the_model_after_an_error(model, make_data):
    before = tfl.Snapshot(model).to_arrays()

    def train(model, seed):
        model.fit(*make_data(), batch_size=8, verbose=0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stability(model, train, make_data())
    for name, value in tfl.Snapshot(model).to_arrays().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": (1, 1)}, r"`seeds` must be two different .*seeds=\(1, 1\)"),
        ({"seeds": 3}, "`seeds` must be two different"),
        ({"seeds": (0, -1)}, r"`seeds\[1\]` must be an integer >= 0"),
        ({"epochs": None}, "`epochs` must be an integer > 0. Received: epochs=None"),
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"train": [1, 2]}, "`train` must be a tuple of arrays .*Received: list"),
        ({"train": print}, "`epochs` and `batch_size` must be `None`.*epochs=1"),
        ({"start": "ticket.npz"}, "`start` must be a `Ticket`, .*'ticket.npz'"),
        ({"start": (None, None, None)}, "`start` must be"),
    ],
)
def test_wrong_arguments(model, make_data, arguments, message):
    with pytest.raises(ValueError, match=message):
        stability(model, **{"train": make_data(), "data": make_data(), "epochs": 1, **arguments})


def test_ticket_of_another_model(model, make_data, make_model):
    ticket = tfl.Ticket.from_model(tfl.sparsify(make_model("nested")))
    before = tfl.Snapshot(model).to_arrays()
    with pytest.raises(ValueError, match="must share a kernel"):
        stability(model, make_data(), make_data(), start=ticket, epochs=1)
    whole = tfl.Ticket.from_model(model)
    partial = tfl.Ticket(dict(list(whole.masks.items())[:1]), whole.weights)
    with pytest.raises(ValueError, match="`start` must be a ticket of the model. .*output"):
        stability(model, make_data(), make_data(), start=partial, epochs=1)
    for name, value in tfl.Snapshot(model).to_arrays().items():
        np.testing.assert_array_equal(value, before[name])


def test_nothing_is_trained_with_arguments_that_interpolation_refuses(model, make_data):
    def train(model, seed):
        raise AssertionError("trained")

    with pytest.raises(ValueError, match="`points` must be an integer >= 2"):
        stability(model, train, make_data(), points=1)
    with pytest.raises(TypeError, match="point"):
        stability(model, train, make_data(), point=3)


def test_model_with_tweaks_in_its_forward_pass_is_refused(model, make_data):
    tfl.retrain.soft_activations(model)
    with pytest.raises(ValueError, match=r"must not have tweaks .*\['soft activations'\]"):
        stability(model, make_data(), make_data(), epochs=1)
