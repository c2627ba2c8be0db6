import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.sparsity import group_scores
from tf_lottery.structured.selection import accounting_of, scores_of_channels


def counts(model):
    return {name: int(kept.sum()) for name, kept in model.kept_channels().items()}


def test_all_kernels_of_a_group_lose_the_same_channels(make_coupled):
    model = make_coupled()
    kernels = model.get_kernels()
    means = {
        "stem": np.abs(
            np.concatenate([kernels[f"{name}/kernel"].reshape(-1, 4) for name in ("stem", "outer")])
        ).mean(axis=0),
        "inner": np.abs(kernels["inner/kernel"]).mean(axis=(0, 1, 2)),
    }
    masks = tfl.prune(model, 0.5)
    for name, group in (("stem", "stem"), ("outer", "stem"), ("inner", "inner")):
        best = means[group] >= np.sort(means[group])[-len(means[group]) // 2]
        mask = masks[f"{name}/kernel"]
        np.testing.assert_array_equal(mask, np.broadcast_to(best, mask.shape))
    assert model.sparsity == 0.5


def test_pruning_again_refines(make_coupled):
    model = make_coupled()
    tfl.prune(model, 0.25)
    before = model.kept_channels()
    tfl.prune(model, 0.5, scope="global")
    for name, kept in model.kept_channels().items():
        assert not np.any(kept & ~before[name])
    tfl.prune(model, 0.0)
    assert model.sparsity == pytest.approx(0.5, abs=0.1)


def test_sparsities_of_groups(make_coupled):
    model = make_coupled()
    tfl.prune(model, 0.5, distribution={"inner": 1 / 3})
    assert counts(model) == {"stem": 2, "inner": 4}
    model = make_coupled()
    tfl.prune(model, {"stem": 0.75, "inner": 0.5})
    assert counts(model) == {"stem": 1, "inner": 3}
    with pytest.raises(ValueError, match="`sparsity` must have the names .*'inner', 'stem'"):
        tfl.prune(model, {"stem/kernel": 0.5, "inner/kernel": 0.5})


def test_widths_are_rounded(make_coupled):
    model = make_coupled("channel:2")
    tfl.prune(model, 0.4)
    assert counts(model) == {"stem": 2, "inner": 4}
    tfl.prune(model, 0.9)
    assert counts(model) == {"stem": 2, "inner": 2}


def test_a_group_does_not_vanish(make_coupled):
    model = make_coupled()
    with pytest.raises(ValueError, match="must leave a channel of every group.*removes \\['stem'"):
        tfl.prune(model, 0.9, floor=0)
    assert model.sparsity == 0.0
    tfl.prune(model, 0.9)
    assert counts(model) == {"stem": 1, "inner": 1}


def test_accounting_counts_what_compaction_leaves(make_coupled, make_data):
    model = make_coupled()
    accounting = accounting_of(model)
    assert accounting.parameters({}) == model.count_params()
    assert accounting.flops({}) == tfl.flops(model.model, "mac").dense
    x, _ = make_data("residual")
    for sparsity in (0.25, 0.5):
        tfl.prune(model, sparsity)
        small, _ = tfl.compact(model)
        assert accounting.parameters(model.kept_channels()) == small.count_params()
        assert accounting.flops(model.kept_channels()) == tfl.flops(small, "mac").dense
        expected = model.predict(x, verbose=0)
        np.testing.assert_allclose(small.predict(x, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("scope", ["layer", "global", "isomorphic"])
@pytest.mark.parametrize("budget", [{"flops": 0.6}, {"parameters": 0.4}, {"parameters": 1.0}])
def test_budgets(budget, scope, make_coupled):
    model = make_coupled()
    tfl.prune(model, budget=budget, scope=scope, scores="l2")
    accounting, kept = accounting_of(model), counts(model)
    [(kind, fraction)] = budget.items()
    cost = getattr(accounting, kind)
    assert cost(kept) <= fraction * cost({})
    for name, width in (("stem", 4), ("inner", 6)):
        larger = {**kept, name: kept[name] + 1}
        assert kept[name] == width or cost(larger) > fraction * cost({})


def test_like_groups_are_ranked_together(make_coupled):
    scores = {"stem": np.array([1.0, 2, 3, 4]), "inner": np.array([5.0, 6, 7, 8, 9, 10])}
    expected = {"global": [0, 6], "isomorphic": [2, 3], "layer": [2, 3]}
    for scope, (stem, inner) in expected.items():
        model = make_coupled()
        tfl.prune(model, 0.5, scores=scores, scope=scope, floor=1)
        # Globally one channel of the stem stays.
        assert counts(model)["stem"] == max(1, stem)
        assert counts(model)["inner"] <= max(inner, 5)


def test_scores_of_channels(make_coupled, residual_groups):
    model = make_coupled()
    weights = {w.path: np.array(w) for w in model.model.weights}
    found = scores_of_channels(model, group_scores.norm_scale, normalize=False)
    gammas = [weights[f"{name}_norm/gamma"] for name in ("stem", "outer")]
    np.testing.assert_allclose(found["stem"], np.mean(gammas, axis=0), rtol=1e-6)
    normalized = scores_of_channels(model, group_scores.norm_scale)
    assert normalized["inner"].mean() == pytest.approx(1.0)
    tfl.prune(model, 0.5, scores="norm_scale")
    best = np.argsort(found["stem"])[-2:]
    assert set(np.flatnonzero(model.kept_channels()["stem"])) == set(best)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Exactly one of .* `sparsity` and `budget`"),
        ({"sparsity": 0.5, "budget": {"flops": 0.5}}, "Exactly one of"),
        ({"budget": {"flops": 2}}, "`budget` must be a dict"),
        ({"budget": {"flops": 0.01}}, "`budget` must be at least"),
        ({"sparsity": 0.5, "scores": "taylor"}, "tfl.channel_scores\\(model, 'taylor', batches"),
        ({"sparsity": 0.5, "scores": {"stem": np.ones(4)}}, "`scores` must have one score"),
        ({"budget": {"flops": 0.5}, "pattern": "2:4"}, "`budget` must be `None` unless"),
        ({"budget": {"flops": 0.5}, "scope": "gobal"}, "`scope` must be one of"),
        ({"budget": {"flops": 0.5}, "floor": -3}, "`floor` must be an integer >= 0"),
        ({"budget": {"flops": 0.5}, "distribution": "erk"}, "`distribution` must be `None` with"),
        ({"sparsity": {"stem": 0.5, "inner": 0.5, "stem/kernel": 0.5}}, "must have the names"),
        ({"sparsity": 0.5, "scope": "isomorphic", "pattern": "unstructured"}, "`scope` must be"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, make_coupled):
    model = make_coupled()
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        tfl.prune(model, **arguments)
    assert model.sparsity == 0.0


def test_models_without_groups_have_no_channels_to_prune(make_model):
    model = tfl.sparsify(make_model("residual"))
    with pytest.raises(ValueError, match="`pattern` must be another than 'channel'.*Received"):
        tfl.prune(model, 0.5, pattern="channel")
    with pytest.raises(ValueError, match="`pattern` must be another than 'channel'.*Received"):
        tfl.prune(model, budget={"parameters": 0.5}, pattern="channel")
    with pytest.raises(ValueError, match="`distribution` must be `None` with `budget`"):
        options = {"budget": {"parameters": 0.5}, "distribution": "erk"}
        tfl.sparsify(make_model("residual"), pattern="channel", **options)
    with pytest.raises(ValueError, match="`scores` must score single weights.*Received"):
        tfl.prune(model, 0.5, scores="l1")
