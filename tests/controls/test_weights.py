import warnings

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery import controls

pytestmark = pytest.mark.backend

NEW = {
    "a/kernel": np.array([[-0.1, 0.2, 0.3], [0.4, 0.5, -0.6]], "float32"),
    "a/bias": np.array([9.0, 9.0, 9.0], "float32"),
    "b/kernel": np.array([[0.7, 0.8], [0.9, 1.0], [-1.1, 1.2]], "float32"),
}


def build(seed):
    """A model whose biases and batch statistics are not the initial ones."""
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((6,)), *layers])


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value)


def test_reinitialization_takes_all_weights(ticket):
    control = controls.random_reinitialization(ticket, NEW)
    assert_same(control.weights, NEW)
    assert_same(control.masks, ticket.masks)
    assert control.level == 3
    assert ticket.weights["a/kernel"][0, 0] == 1.0


def test_reinitialization_that_keeps_signs(ticket):
    control = controls.random_reinitialization(ticket, NEW, keep_signs=True)
    expected = {
        "a/kernel": [[0.1, -0.2, 0.3], [0.4, -0.5, 0.6]],
        "a/bias": [9.0, 9.0, 9.0],
        "b/kernel": [[-0.7, 0.8], [0.9, -1.0], [1.1, 1.2]],
    }
    assert_same(control.weights, {path: np.float32(value) for path, value in expected.items()})


def test_signs_are_new_where_the_weight_was_zero(masked_ticket):
    with pytest.warns(UserWarning, match="zeros wherever it prunes") as caught:
        control = controls.random_reinitialization(masked_ticket, NEW, keep_signs=True)
    assert [caught[0].filename, len(caught)] == [__file__, 1]
    np.testing.assert_array_equal(
        control.weights["a/kernel"], np.float32([[0.1, 0.2, 0.3], [0.4, -0.5, 0.6]])
    )


def test_reinitialization_by_a_function_of_a_seed():
    sparse = tfl.sparsify(build(0))
    start = tfl.Snapshot(sparse)
    tfl.prune(sparse, 0.5)
    for variable in sparse.model.non_trainable_variables:
        if "moving_mean" in variable.path:
            variable.assign(np.full(8, 3.0))
    ticket = tfl.Ticket.from_model(sparse, {**start.weights, **moved_statistics(sparse)})
    first, again, other = (controls.random_reinitialization(ticket, build, s) for s in (1, 1, 2))
    for path, weight in zip(ticket.weights, build(1).get_weights(), strict=True):
        np.testing.assert_array_equal(first.weights[path], weight)
        np.testing.assert_array_equal(again.weights[path], weight)
    for path in ticket.masks:
        assert (first.weights[path] != other.weights[path]).all()
    assert first.provenance["control"] == [
        {"name": "random_reinitialization", "seed": 1, "keep_signs": False}
    ]
    assert first.apply(sparse).unmatched == {}
    assert not keras.ops.convert_to_numpy(sparse.model.layers[1].moving_mean).any()


def moved_statistics(sparse):
    weights = tfl.Snapshot(sparse).weights
    return {path: value for path, value in weights.items() if "moving_mean" in path}


@pytest.mark.parametrize("kind", ["nested", "recurrent_deep", "attention", "subclassed"])
def test_reinitialization_of_any_model(kind, make_model, model_ticket):
    ticket = model_ticket(kind)

    def build(seed):
        model = make_model(kind)
        rng = np.random.default_rng(seed)
        for weight in model.weights:
            weight.assign(rng.uniform(0.1, 1, weight.shape))
        return model

    control = controls.random_reinitialization(ticket, build, 7, keep_signs=True)
    for path, mask in ticket.masks.items():
        new, old = control.weights[path], ticket.weights[path]
        assert (np.sign(new) == np.sign(old)).all()
        assert (np.abs(new) != np.abs(old)).any()
        np.testing.assert_array_equal(control.masks[path], mask)
    other = tfl.sparsify(make_model(kind))
    assert control.apply(other).unmatched == {}
    for kernel, (path, mask) in zip(
        other.get_kernels().values(), ticket.masks.items(), strict=True
    ):
        np.testing.assert_array_equal(kernel, control.weights[path] * mask)


def test_reinitialization_from_every_kind_of_source(make_model, model_ticket):
    ticket = model_ticket()
    model = make_model()
    for weight in model.weights:
        weight.assign(weight + 1.0)
    sparse = tfl.sparsify(model)
    dense = tfl.Ticket.from_model(sparse)
    for source in (model, sparse, tfl.Snapshot(sparse), dense, dense.weights):
        control = controls.random_reinitialization(ticket, source)
        for path, weight in zip(ticket.weights, model.get_weights(), strict=True):
            np.testing.assert_array_equal(control.weights[path], weight)


def test_the_same_weights_are_refused_as_new(make_model, model_ticket):
    ticket = model_ticket()
    with pytest.raises(ValueError, match="`model` must have other weights.*seed.*hidden/kernel"):
        controls.random_reinitialization(ticket, lambda seed: make_model(), 3)
    model = make_model()
    model.layers[0].kernel.assign(model.layers[0].kernel + 1.0)
    with pytest.warns(UserWarning, match=r"equal those of the ticket in \['.*output/kernel'\]"):
        controls.random_reinitialization(ticket, model)


def test_zeros_are_no_sign_of_the_same_weights(ticket):
    weights = {**ticket.weights, "b/kernel": np.zeros((3, 2), "float32")}
    zeros = tfl.Ticket(ticket.masks, weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        control = controls.random_reinitialization(zeros, {**NEW, "b/kernel": np.zeros((3, 2))})
    assert not control.weights["b/kernel"].any()


@pytest.mark.parametrize(
    ("model", "seed", "message"),
    [
        (build, None, "`seed` must be an integer >= 0"),
        (NEW, 1, "`seed` must be `None` unless `model` is a function.*Received: seed=1"),
        (3, None, "`model` must be a built `keras.Model`.*Received: model=3"),
        (lambda seed: "text", 1, "`model` must be a built `keras.Model`.*Received: model='text'"),
        (keras.Sequential([keras.layers.Dense(2)]), None, "`model` must be a built"),
        ({"a/kernel": NEW["a/kernel"]}, None, "`model` must have all weights.*b/kernel.*Received"),
        ({**NEW, "a/bias": np.ones(2)}, None, "`model` must have all weights.*a/bias"),
    ],
)
def test_models_that_do_not_fit_are_named(ticket, model, seed, message):
    with pytest.raises(ValueError, match=message):
        controls.random_reinitialization(ticket, model, seed)


def test_pruned_and_gated_models_are_refused(make_model, model_ticket):
    ticket = model_ticket()
    with pytest.raises(ValueError, match="`model` must not be pruned.*Received.*density 0.5"):
        controls.random_reinitialization(ticket, tfl.sparsify(make_model(), sparsity=0.5))
    gated = tfl.sparsify(make_model(), gate=tfl.SoftGate())
    with pytest.raises(ValueError, match="`weights` must not have soft gates"):
        controls.final_weights(ticket, gated)


def test_reshuffling_permutes_survivors_alone(ticket):
    control = controls.reshuffle_weights(ticket, seed=4)
    moved = False
    for path, mask in ticket.masks.items():
        before, after = ticket.weights[path], control.weights[path]
        assert sorted(after[mask]) == sorted(before[mask])
        np.testing.assert_array_equal(after[~mask], before[~mask])
        moved |= bool((before != after).any())
    assert moved
    np.testing.assert_array_equal(control.weights["a/bias"], ticket.weights["a/bias"])
    assert_same(control.masks, ticket.masks)
    assert ticket.weights["a/kernel"][0, 0] == 1.0


def test_reshuffling_can_keep_signs(ticket):
    orders = set()
    for seed in range(10):
        found = controls.reshuffle_weights(ticket, seed, keep_signs=True).weights["a/kernel"]
        assert np.sign(found).tolist() == [[1, -1, 1], [1, -1, 1]]
        survivors = np.abs(found[ticket.masks["a/kernel"]])
        assert sorted(survivors) == [1.0, 5.0, 6.0]
        assert [found[0, 1], found[0, 2], found[1, 0]] == [-2.0, 3.0, 4.0]
        orders.add(tuple(survivors))
    assert len(orders) > 2


def test_reshuffling_among_all_permutes_kernels(ticket):
    control = controls.reshuffle_weights(ticket, seed=1, among="all")
    for path in ticket.masks:
        before, after = ticket.weights[path], control.weights[path]
        assert sorted(after.flat) == sorted(before.flat)
        assert (after != before).any()
    control = controls.reshuffle_weights(ticket, seed=1, keep_signs=True, among="all")
    assert np.sign(control.weights["a/kernel"]).tolist() == [[1, -1, 1], [1, -1, 1]]
    assert sorted(np.abs(control.weights["a/kernel"]).flat) == [1, 2, 3, 4, 5, 6]


def test_constants_are_the_deviation_with_the_signs_kept(ticket):
    control = controls.constant_weights(ticket)
    # 1, -2, 3, 4, -5, 6 have the mean 7/6 and the mean square 91/6.
    constant = np.sqrt(91 / 6 - (7 / 6) ** 2)
    np.testing.assert_allclose(
        control.weights["a/kernel"], constant * np.array([[1, -1, 1], [1, -1, 1]]), rtol=1e-6
    )
    assert control.weights["a/kernel"].dtype == "float32"
    np.testing.assert_array_equal(control.weights["a/bias"], ticket.weights["a/bias"])
    assert control.provenance["control"] == [
        {"name": "constant_weights", "keep_signs": True, "seed": 0}
    ]


def test_constants_can_have_permuted_signs(ticket):
    signs = [
        tuple(np.sign(controls.constant_weights(ticket, False, s).weights["a/kernel"].flat))
        for s in range(10)
    ]
    assert {s.count(-1) for s in signs} == {2}
    assert len(set(signs)) > 3


def test_constants_of_zero_are_positive():
    ticket = tfl.Ticket({"k": np.ones((1, 2), bool)}, {"k": np.array([[0.0, -2.0]])})
    np.testing.assert_array_equal(
        controls.constant_weights(ticket).weights["k"], np.array([[1.0, -1.0]])
    )


def test_kernels_of_equal_weights_have_no_deviation():
    ticket = tfl.Ticket({"k": np.ones((1, 2), bool)}, {"k": np.zeros((1, 2))})
    with pytest.raises(ValueError, match="`ticket` must have kernels with different.*'k'"):
        controls.constant_weights(ticket)


def test_final_weights_are_those_of_the_trained_model(
    make_model, make_data, compile_model, model_ticket
):
    ticket = model_ticket()
    sparse = compile_model(tfl.sparsify(make_model()))
    ticket.apply(sparse)
    sparse.fit(*make_data(), epochs=1, verbose=0)
    trained = sparse.model.get_weights()
    for source in (sparse, sparse.model, tfl.Snapshot(sparse), tfl.Ticket.from_model(sparse)):
        control = controls.final_weights(ticket, source)
        for path, weight in zip(ticket.weights, trained, strict=True):
            np.testing.assert_array_equal(control.weights[path], weight)
    assert control.provenance["control"] == [{"name": "final_weights"}]
    assert_same(control.masks, ticket.masks)
    with pytest.raises(ValueError, match="`weights` must have all weights of the ticket"):
        controls.final_weights(ticket, make_model("nested"))


@pytest.mark.parametrize(
    "change",
    [
        controls.reshuffle_weights,
        lambda ticket, seed: controls.reshuffle_weights(ticket, seed, True, "all"),
        lambda ticket, seed: controls.constant_weights(ticket, False, seed),
    ],
)
def test_seeds_decide(model_ticket, check_training, change):
    ticket = model_ticket(sparsity=0.5)
    first, again, other = (change(ticket, seed=seed) for seed in (1, 1, [1, 2]))
    assert_same(again.weights, first.weights)
    for path in ticket.masks:
        assert (first.weights[path] != other.weights[path]).any()
    check_training(first)


@pytest.mark.parametrize(
    "change",
    [
        controls.constant_weights,
        lambda ticket: controls.reshuffle_weights(ticket, among="all"),
    ],
)
def test_masked_weights_are_warned_of_where_they_count(masked_ticket, change):
    with pytest.warns(UserWarning, match="0 instead of what training started from") as caught:
        change(masked_ticket)
    assert len(caught) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda ticket: controls.random_reinitialization(ticket, NEW),
        controls.reshuffle_weights,
        lambda ticket: controls.final_weights(ticket, NEW),
    ],
)
def test_masked_weights_do_not_matter_elsewhere(masked_ticket, change):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        change(masked_ticket)


def test_low_precision_is_kept(ticket):
    bfloat16 = keras.ops.convert_to_numpy(keras.ops.zeros(1, "bfloat16")).dtype
    low = tfl.Ticket(ticket.masks, {p: w.astype(bfloat16) for p, w in ticket.weights.items()})
    new = {path: weight.astype(bfloat16) for path, weight in NEW.items()}
    for control in (
        controls.random_reinitialization(low, new, keep_signs=True),
        controls.reshuffle_weights(low, keep_signs=True),
        controls.constant_weights(low, keep_signs=False),
    ):
        for path in ticket.masks:
            assert control.weights[path].dtype == bfloat16


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (controls.reshuffle_weights, {"seed": -1}, "`seed` must be an integer >= 0"),
        (controls.reshuffle_weights, {"among": "none"}, "`among` must be one of.*'none'"),
        (controls.constant_weights, {"seed": "a"}, "`seed` must be an integer >= 0"),
        (controls.final_weights, {"weights": 3}, "`weights` must be a built.*Received: weights=3"),
        (controls.random_reinitialization, {"model": None}, "`model` must be a built"),
    ],
)
def test_wrong_arguments_are_named(ticket, change, arguments, message):
    with pytest.raises(ValueError, match=message):
        change(ticket, **arguments)
    others = {**arguments, "seed": 0} if "seed" in arguments else arguments
    with pytest.raises(ValueError, match="`ticket` must be a `Ticket`.*Received: ticket='a'"):
        change("a", **others)


def test_missing_weights_are_named(ticket):
    bare = tfl.Ticket(ticket.masks, {"a/kernel": ticket.weights["a/kernel"]})
    for change in (
        controls.reshuffle_weights,
        controls.constant_weights,
        lambda ticket: controls.random_reinitialization(ticket, NEW, keep_signs=True),
    ):
        with pytest.raises(ValueError, match=r"`ticket` must have the weights.*\['b/kernel'\]"):
            change(bare)
    assert "b/kernel" in controls.random_reinitialization(bare, NEW).weights


def test_other_weights_are_of_no_training_step():
    ticket = tfl.Ticket(
        {"a/kernel": np.ones((2, 2), bool)},
        {"a/kernel": np.eye(2, dtype="float32")},
        provenance={"step": 500},
    )
    assert "step" not in tfl.controls.constant_weights(ticket).provenance
    assert tfl.controls.shuffle_masks(ticket).provenance["step"] == 500
