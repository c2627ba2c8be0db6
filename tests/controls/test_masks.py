import functools
import json
import warnings

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery import controls
from tf_lottery.sparsity import distributions, patterns


def flat(ticket):
    return np.concatenate([mask.reshape(-1) for mask in ticket.masks.values()])


def make_ticket(mask, **provenance):
    mask = np.asarray(mask, bool)
    weights = np.arange(1, mask.size + 1, dtype="float32").reshape(mask.shape)
    return tfl.Ticket({"kernel": mask}, {"kernel": weights}, provenance=provenance)


def test_shuffling_keeps_the_count_of_every_kernel(ticket):
    before = {path: mask.copy() for path, mask in ticket.masks.items()}
    control = controls.shuffle_masks(ticket, seed=1)
    assert {path: mask.sum() for path, mask in control.masks.items()} == {
        "a/kernel": 3,
        "b/kernel": 1,
    }
    assert list(control.masks) == ["a/kernel", "b/kernel"]
    assert (flat(control) != flat(ticket)).any()
    assert control.level == 3
    for path, mask in ticket.masks.items():
        np.testing.assert_array_equal(mask, before[path])


def test_every_place_is_as_likely():
    ticket = make_ticket([[1, 0, 0, 0]])
    places = [flat(controls.shuffle_masks(ticket, seed)).argmax() for seed in range(400)]
    # The expected count is 100 each, with a standard deviation below 9.
    assert np.bincount(places, minlength=4).min() > 60


@pytest.mark.parametrize(
    "change",
    [
        controls.shuffle_masks,
        functools.partial(controls.shuffle_masks, scope="global"),
        controls.random_masks,
        functools.partial(controls.random_masks, distribution="erk"),
    ],
)
def test_seeds_decide(model_ticket, change):
    ticket = model_ticket()
    first, again, other, listed = (change(ticket, seed) for seed in (1, 1, 2, [1, 2]))
    np.testing.assert_array_equal(flat(first), flat(again))
    assert (flat(first) != flat(other)).any()
    assert (flat(first) != flat(listed)).any()


@pytest.mark.parametrize("change", [controls.shuffle_masks, controls.random_masks])
def test_random_masks_of_the_same_seed_are_not_drawn_again(make_model, change):
    model = make_model()
    start = tfl.Snapshot(model)
    sparse = tfl.sparsify(model, sparsity=0.5, scores="random", seed=0)
    ticket = tfl.Ticket.from_model(sparse, start.weights)
    assert (flat(change(ticket, seed=0)) != flat(ticket)).mean() > 0.2


def test_global_shuffling_keeps_the_count_of_all(ticket):
    counts = set()
    for seed in range(10):
        control = controls.shuffle_masks(ticket, seed, scope="global")
        assert flat(control).sum() == 4
        counts.add(int(control.masks["a/kernel"].sum()))
    assert len(counts) > 1


def test_revived_weights_get_their_true_values(ticket, model_ticket, make_model, check_training):
    control = controls.shuffle_masks(ticket, seed=1)
    assert control.weights.keys() == ticket.weights.keys()
    for path, weight in ticket.weights.items():
        np.testing.assert_array_equal(control.weights[path], weight)
    ticket = model_ticket()
    control = controls.shuffle_masks(ticket, seed=1)
    sparse = tfl.sparsify(make_model())
    ticket.apply(sparse)
    control.apply(sparse)
    found = sparse.get_kernels().values()
    layers = make_model().layers
    for layer, kernel, (path, mask) in zip(layers, found, control.masks.items(), strict=True):
        initial = keras.ops.convert_to_numpy(layer.kernel)
        revived = mask & ~ticket.masks[path]
        assert revived.any()
        np.testing.assert_array_equal(kernel, initial * mask)
        assert initial[revived].all()
    check_training(control)


@pytest.mark.parametrize("change", [controls.shuffle_masks, controls.random_masks])
def test_masked_weights_are_warned_of_once(masked_ticket, ticket, change):
    with pytest.warns(UserWarning, match="0 instead of what training started from") as caught:
        change(masked_ticket)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        change(ticket)


def test_ticket_of_a_pruned_model_is_warned_of(make_model):
    ticket = tfl.Ticket.from_model(tfl.sparsify(make_model(), sparsity=0.5))
    with pytest.warns(UserWarning, match="hidden/kernel.*output/kernel"):
        controls.shuffle_masks(ticket)


@pytest.mark.parametrize("change", [controls.shuffle_masks, controls.random_masks])
def test_masks_without_weights_are_enough(change):
    control = change(tfl.Ticket({"kernel": np.array([[1, 0], [0, 0]], bool)}, {}))
    assert flat(control).sum() == 1


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_nothing_and_everything_stay(scope):
    masks = {"none": np.zeros((2, 3), bool)}
    assert not flat(controls.shuffle_masks(tfl.Ticket(masks, {}), scope=scope)).any()
    masks = {"all": np.ones((2, 3), bool)}
    assert flat(controls.shuffle_masks(tfl.Ticket(masks, {}), scope=scope)).all()


@pytest.mark.parametrize(
    ("pattern", "kept_per_unit"), [("2:4", [4, 1, 3]), ("1:4", [2, 0, 1]), ("3:4", [5, 6, 2])]
)
def test_n_of_m_is_followed(pattern, kept_per_unit):
    n = int(pattern[0])
    mask = np.zeros((8, 3), bool)
    for unit, count in enumerate(kept_per_unit):
        mask[:4, unit][: min(count, n)] = True
        mask[4:, unit][: max(count - n, 0)] = True
    for change in (controls.shuffle_masks, controls.random_masks):
        control = change(make_ticket(mask, pattern=pattern), seed=3)
        found = control.masks["kernel"]
        assert found.sum() == sum(kept_per_unit)
        assert found.reshape(2, 4, 3).sum(axis=1).max() <= n
        assert (found != mask).any()
        assert control.provenance["pattern"] == pattern


def test_n_of_m_that_is_reached_part_of_the_way_keeps_its_count():
    mask = np.ones((8, 3), bool)
    mask[[0, 4], :] = False
    found = controls.shuffle_masks(make_ticket(mask), pattern="2:4").masks["kernel"]
    assert found.sum() == 18
    assert found.reshape(2, 4, 3).sum(axis=1).min() >= 2


def test_blocks_move_as_wholes():
    mask = np.zeros((8, 4), bool)
    mask[:2, 0] = mask[4:6, 3] = mask[6:, 3] = True
    found = controls.shuffle_masks(make_ticket(mask, pattern="2x1"), seed=1).masks["kernel"]
    blocks = found.reshape(4, 2, 4)
    np.testing.assert_array_equal(blocks[:, 0], blocks[:, 1])
    assert blocks[:, 0].sum() == 3
    assert (found != mask).any()


@pytest.mark.parametrize("control", [controls.shuffle_masks, controls.random_masks])
def test_channels_move_as_wholes(control, make_coupled):
    model, other = make_coupled(), make_coupled()
    tfl.prune(model, {"stem": 0.5, "inner": 0.5})
    ticket = tfl.Ticket.from_model(model, tfl.Snapshot(other).weights)
    found = control(ticket, seed=1, model=other)
    found.apply(other)
    kept, before = other.kept_channels(), model.kept_channels()
    assert {name: int(mask.sum()) for name, mask in kept.items()} == {"stem": 2, "inner": 3}
    assert any((kept[name] != before[name]).any() for name in kept)
    assert all(map(model.pattern.holds, other.to_matrices(found.masks, model.pattern).values()))
    with pytest.raises(ValueError, match="`model` must be a `SparseModel` .*Received: model=None"):
        control(ticket, seed=1)
    with pytest.raises(ValueError, match="`ticket` must have masks of all kernels.*Received"):
        control(make_ticket(np.ones((2, 2), bool), pattern="channel"), model=other)


def test_groups_of_several_kernels_are_shuffled_together():
    masks = {"a": np.zeros((8, 4), bool), "b": np.zeros((4, 6), bool)}
    masks["a"][:4] = masks["b"][:, 0] = True
    found = controls.shuffle_masks(tfl.Ticket(masks, {}), 1, "global", "4x1").masks
    assert sum(mask.sum() for mask in found.values()) == 20


def test_pattern_can_be_left():
    mask = np.zeros((8, 16), bool)
    mask[:, 0] = True
    control = controls.shuffle_masks(
        make_ticket(mask, pattern="channel"), pattern=patterns.Unstructured()
    )
    assert control.masks["kernel"].sum() == 8
    assert not control.masks["kernel"].all(axis=0).any()
    assert control.provenance["pattern"] == "unstructured"


def test_groups_that_are_not_whole_are_refused():
    with pytest.raises(ValueError, match="`pattern` must be one that the masks follow.*'kernel'"):
        controls.shuffle_masks(make_ticket([[1, 0], [0, 0]], pattern="2x1"))


def test_kernels_that_the_pattern_does_not_divide_are_free():
    masks = {"a": np.zeros((8, 2), bool), "b": np.zeros((3, 2), bool), "c": np.ones(5, bool)}
    masks["a"][:2, :] = masks["b"][:2, :] = True
    control = controls.shuffle_masks(tfl.Ticket(masks, {}), pattern="2:4")
    assert [int(mask.sum()) for mask in control.masks.values()] == [4, 4, 5]
    assert control.masks["a"].reshape(2, 4, 2).sum(axis=1).max() <= 2


def test_kernels_of_attention_are_the_matrices_that_the_model_knows(model_ticket, make_model):
    ticket = model_ticket("attention", 0.5, pattern="1x2")
    assert ticket.provenance["pattern"] == "1x2"
    sparse = tfl.sparsify(make_model("attention"), pattern="1x2")
    query = next(path for path in ticket.masks if "query" in path)
    assert ticket.masks[query].shape == (6, 2, 3)
    for model in (sparse, None):
        mask = controls.shuffle_masks(ticket, seed=1, model=model).masks[query]
        blocks = mask.reshape(6, 3, 2)
        np.testing.assert_array_equal(blocks[..., 0], blocks[..., 1])
        assert mask.sum() == ticket.masks[query].sum()
        assert (mask != ticket.masks[query]).any()


def test_kernels_that_are_no_matrix_for_the_model_are_free():
    layers = [keras.layers.Conv2DTranspose(8, 3), keras.layers.Conv2D(8, 1)]
    sparse = tfl.sparsify(keras.Sequential([keras.Input((4, 4, 4)), *layers]))
    masks = {path: np.zeros(kernel.shape, bool) for path, kernel in sparse.kernels.items()}
    transposed, usual = masks
    masks[transposed].flat[::9] = True
    masks[usual].reshape(8, 8)[:4, 0] = True
    ticket = tfl.Ticket(masks, {})
    control = controls.shuffle_masks(ticket, pattern="4x1", model=sparse)
    assert counts(control) == [32, 4]
    assert control.masks[usual].reshape(2, 4, 8).all(axis=1).sum() == 1
    with pytest.raises(ValueError, match="`pattern` must be one that the masks follow"):
        controls.shuffle_masks(ticket, pattern="4x1")


def test_equal_counts_are_the_default(ticket):
    control = controls.random_masks(ticket, seed=1)
    assert {path: mask.sum() for path, mask in control.masks.items()} == {
        "a/kernel": 3,
        "b/kernel": 1,
    }


def counts(control):
    return [int(np.count_nonzero(mask)) for mask in control.masks.values()]


def make_large(kept, shapes=((20, 30), (30, 10), (10, 5))):
    masks = {}
    for i, shape in enumerate(shapes):
        masks[f"{i}/kernel"] = np.zeros(shape, bool)
    masks["0/kernel"].flat[:kept] = True
    return tfl.Ticket(masks, {})


@pytest.mark.parametrize("kept", [7, 95, 190, 191, 300])
@pytest.mark.parametrize("name", ["uniform", "er", "erk"])
def test_distributions_keep_the_count_of_all(kept, name):
    ticket = make_large(kept)
    control = controls.random_masks(ticket, distribution=name)
    assert sum(counts(control)) == kept
    shapes = {path: mask.shape for path, mask in ticket.masks.items()}
    sparsity = distributions.get(name)(shapes, 1 - kept / 950)
    for (path, mask), count in zip(ticket.masks.items(), counts(control), strict=True):
        assert abs(count - mask.size * (1 - sparsity[path])) < 2


def test_uniform_counts():
    # A fifth of 600, 300 and 50 weights.
    assert counts(controls.random_masks(make_large(190), distribution="uniform")) == [120, 60, 10]


def test_functions_and_dicts_distribute():
    dense_first = functools.partial(distributions.uniform, dense_first=True)
    control = controls.random_masks(make_large(95), distribution=dense_first)
    assert counts(control) == [600, 30, 5]
    control = controls.random_masks(make_large(95), distribution={"^2": 0.0, "^1": 0.5})
    assert counts(control) == [60, 150, 50]
    assert control.provenance["control"][0]["distribution"] == {"^2": 0.0, "^1": 0.5}


def test_distribution_and_pattern_go_together():
    ticket = make_large(192, ((16, 32), (32, 16)))
    control = controls.random_masks(ticket, distribution="uniform", pattern="4x1")
    assert counts(control) == [96, 96]
    for mask in control.masks.values():
        blocks = mask.reshape(mask.shape[0] // 4, 4, mask.shape[1])
        np.testing.assert_array_equal(blocks.all(axis=1), blocks.any(axis=1))


def test_random_masks_train(model_ticket, check_training):
    check_training(controls.random_masks(model_ticket(), seed=1, distribution="erk"))


def test_provenance_lists_what_was_done(ticket, tmp_path):
    partial = functools.partial(distributions.uniform, dense_first=False)
    control = controls.random_masks(controls.shuffle_masks(ticket, seed=[1, 2]), 3, partial)
    shuffled, random = control.provenance["control"]
    assert shuffled == {
        "name": "shuffle_masks",
        "seed": [1, 2],
        "scope": "layer",
        "pattern": "unstructured",
    }
    assert (random["name"], random["seed"]) == ("random_masks", 3)
    assert "uniform" in random["distribution"]
    assert control.provenance["step"] == 0
    assert ticket.provenance == {"step": 0}
    json.dumps(control.provenance)
    control.save(tmp_path / "control.npz")
    loaded = tfl.Ticket.load(tmp_path / "control.npz")
    assert loaded.provenance == control.provenance
    np.testing.assert_array_equal(flat(loaded), flat(control))


@pytest.mark.parametrize("change", [controls.shuffle_masks, controls.random_masks])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ticket": {"a": 1}}, "`ticket` must be a `Ticket`.*Received: ticket={'a': 1}"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"seed": None}, "`seed` must be an integer >= 0"),
        ({"seed": []}, "`seed` must be an integer >= 0"),
        ({"seed": [1, 0.5]}, "`seed` must be an integer >= 0.*0.5"),
        ({"pattern": "2-4"}, "`pattern` must be a `Pattern`.*Received"),
        ({"pattern": "2:4", "model": 3}, "`model` must be a `SparseModel`"),
    ],
)
def test_wrong_arguments_are_named(ticket, change, arguments, message):
    with pytest.raises(ValueError, match=message):
        change(**{"ticket": ticket, **arguments})


def test_wrong_scope_and_distribution_are_named(ticket):
    with pytest.raises(ValueError, match="`scope` must be one of.*Received: scope='network'"):
        controls.shuffle_masks(ticket, scope="network")
    with pytest.raises(ValueError, match="`distribution` must be .*Received.*'gaussian'"):
        controls.random_masks(ticket, distribution="gaussian")
    empty = tfl.Ticket({"kernel": np.zeros((2, 2), bool)}, {})
    with pytest.raises(ValueError, match="`ticket` must keep at least one weight. Received"):
        controls.random_masks(empty, distribution="uniform")
