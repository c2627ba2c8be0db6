import numpy as np
import pytest

from tf_lottery.sparsity import masks, patterns

SCORES = np.array([[4.0, 1.0, 6.0], [2.0, 5.0, 3.0]])


def test_keeps_the_highest_scores():
    np.testing.assert_array_equal(
        masks.top_k_masks(SCORES, 0.5), [[True, False, True], [False, True, False]]
    )


def test_equal_scores_keep_the_lower_flat_index():
    scores = np.array([[1.0, 2.0, 1.0], [1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(
        masks.top_k_masks(scores, 0.5), [[True, True, True], [False, False, False]]
    )


def test_equal_scores_across_arrays_keep_the_first_array():
    scores = {"b": np.ones(3), "a": np.ones(3)}
    found = masks.top_k_masks(scores, 0.5, scope="global", floor=0)
    np.testing.assert_array_equal(found["b"], [True, True, True])
    np.testing.assert_array_equal(found["a"], [False, False, False])


def test_global_scope_ranks_all_arrays_together():
    scores = {"small": np.array([1.0, 2.0, 3.0]), "large": np.array([4.0, 5.0, 6.0])}
    found = masks.top_k_masks(scores, 0.5, scope="global", floor=0)
    np.testing.assert_array_equal(found["small"], [False, False, False])
    np.testing.assert_array_equal(found["large"], [True, True, True])


def test_layer_scope_ranks_each_array_by_itself():
    scores = {"small": np.array([1.0, 2.0, 3.0, 0.0]), "large": np.array([4.0, 5.0])}
    found = masks.top_k_masks(scores, {"small": 0.75, "large": 0.5}, scope="layer")
    np.testing.assert_array_equal(found["small"], [False, False, True, False])
    np.testing.assert_array_equal(found["large"], [False, True])


@pytest.mark.parametrize(
    ("floor", "large", "small"),
    [
        (0, [1, 1, 1, 1], [0, 0, 0]),
        (1, [0, 1, 1, 1], [0, 0, 1]),
        (2, [0, 0, 1, 1], [0, 1, 1]),
        # Three per kernel would be too many: the highest among each kernel's top three are kept.
        (3, [0, 1, 1, 1], [0, 0, 1]),
    ],
)
def test_floor_leaves_the_total_exact(floor, large, small):
    scores = {"large": np.array([4.0, 5.0, 6.0, 7.0]), "small": np.array([1.0, 2.0, 3.0])}
    found = masks.top_k_masks(scores, 3 / 7, scope="global", floor=floor)
    np.testing.assert_array_equal(found["large"], large)
    np.testing.assert_array_equal(found["small"], small)


def test_floor_of_a_layer_of_its_own_wins_over_its_sparsity():
    scores = np.array([1.0, 3.0, 2.0])
    for floor, expected in ((0, [0, 0, 0]), (1, [0, 1, 0]), (2, [0, 1, 1]), (9, [1, 1, 1])):
        np.testing.assert_array_equal(masks.top_k_masks(scores, 0.9, floor=floor), expected)


def test_floor_revives_nothing():
    scores = {"a": np.array([4.0, 5.0, 6.0]), "b": np.array([1.0, 2.0, 3.0]), "c": np.ones(3)}
    alive = {"a": np.ones(3, bool), "b": np.array([True, False, False]), "c": np.zeros(3, bool)}
    found = masks.top_k_masks(scores, 7 / 9, scope="global", masks=alive, floor=2)
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "a": [False, True, True],
        "b": [False, False, False],
        "c": [False, False, False],
    }
    found = masks.top_k_masks(scores, 7 / 9, scope="global", masks=alive)
    assert found["a"].tolist() == [False, False, True]
    assert found["b"].tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("pattern", "sparsity", "kept"), [("2x1", 0.75, 2), ("2:4", 0.75, 1), ("channel", 0.5, 4)]
)
def test_floor_keeps_whole_groups_that_follow_the_pattern(pattern, sparsity, kept):
    scores = {"large": 10 + np.arange(8.0).reshape(4, 2), "small": np.arange(8.0).reshape(4, 2)}
    found = masks.top_k_masks(scores, sparsity, pattern=pattern, scope="global", floor=0)
    assert not found["small"].any()
    found = masks.top_k_masks(scores, sparsity, pattern=pattern, scope="global")
    assert sum(np.count_nonzero(mask) for mask in found.values()) == 16 - sparsity * 16
    assert np.count_nonzero(found["small"]) == kept
    assert found["small"][3, 1] and patterns.get(pattern).holds(found["small"])


def test_floor_of_channels_of_different_size():
    scores = {"wide": np.array([[5.0, 6.0, 7.0]] * 4), "narrow": np.array([[1.0, 2.0, 3.0]] * 2)}
    found = masks.top_k_masks(scores, 0.45, pattern="channel", scope="global")
    np.testing.assert_array_equal(found["wide"], [[False, True, True]] * 4)
    np.testing.assert_array_equal(found["narrow"], [[False, False, True]] * 2)


@pytest.mark.parametrize("size", [1, 7, 1000, 12345])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 1 / 3, 0.5, 0.9, 0.999])
def test_counts_are_exact(size, sparsity):
    scores = np.random.default_rng(size).normal(size=size).astype("float32")
    pruned = size - np.count_nonzero(masks.top_k_masks(scores, sparsity, floor=0))
    assert pruned == round(sparsity * size)


def test_counts_are_exact_with_many_ties():
    scores = np.random.default_rng(0).integers(0, 3, 1000).astype("float32")
    kept = masks.top_k_masks(scores, 0.77)
    assert np.count_nonzero(kept) == 230
    assert scores[kept].min() >= scores[~kept].max()


def test_agrees_with_a_stable_sort():
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 50, 500).astype("float32")
    order = np.argsort(-scores, kind="stable")
    expected = np.zeros(500, bool)
    expected[order[:125]] = True
    np.testing.assert_array_equal(masks.top_k_masks(scores, 0.75), expected)


def test_refining_never_revives():
    mask = np.array([[False, True, True], [True, False, True]])
    np.testing.assert_array_equal(
        masks.top_k_masks(SCORES, 0.5, masks=mask), [[False, False, True], [True, False, True]]
    )
    np.testing.assert_array_equal(
        masks.top_k_masks(SCORES, 4 / 6, masks=mask), [[False, False, True], [False, False, True]]
    )


def test_refining_to_less_sparsity_changes_nothing():
    mask = np.array([[False, True, True], [True, False, False]])
    np.testing.assert_array_equal(masks.top_k_masks(SCORES, 0.1, masks=mask), mask)


def test_refining_chain_is_nested_and_exact():
    rng = np.random.default_rng(0)
    scores = {"a": rng.normal(size=(30, 7)), "b": rng.normal(size=(11, 5))}
    before, size = None, 30 * 7 + 11 * 5
    for sparsity in (0.2, 0.36, 0.8, 0.97):
        after = masks.top_k_masks(scores, sparsity, scope="global", masks=before)
        assert sum(np.count_nonzero(~m) for m in after.values()) == round(sparsity * size)
        if before is not None:
            assert all(np.all(before[name] >= after[name]) for name in after)
        before = after
        scores = {name: rng.normal(size=array.shape) for name, array in scores.items()}


def test_negative_and_infinite_scores_are_ranked():
    scores = np.array([-np.inf, -2.0, -1.0, np.inf])
    np.testing.assert_array_equal(masks.top_k_masks(scores, 0.5), [False, False, True, True])


def test_scores_can_be_lists():
    scores = [[4.0, 1.0], [2.0, 3.0]]
    for pattern in ("unstructured", "1x1"):
        kept = masks.top_k_masks({"a": scores}, 0.5, pattern=pattern)["a"]
        np.testing.assert_array_equal(kept, [[True, False], [False, True]])


def test_scores_are_left_unchanged():
    scores = SCORES.copy()
    masks.top_k_masks(scores, 0.5)
    np.testing.assert_array_equal(scores, SCORES)


def test_density_counts_over_all_arrays():
    assert masks.density({"a": np.array([True, False]), "b": np.zeros(6, bool)}) == 1 / 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1.0}, r"`sparsity` must be in \[0, 1\). Received: sparsity=1.0"),
        ({"sparsity": -0.1}, "Received: sparsity=-0.1"),
        ({"sparsity": "half"}, "must be a number"),
        ({"sparsity": True}, "must be a number"),
        ({"sparsity": 0.5, "scope": "gobal"}, "`scope` must be one of .*Received: scope='gobal'"),
        ({"sparsity": 0.5, "pattern": "2of4"}, "`pattern`"),
        ({"sparsity": {"scores": 0.5}, "scope": "global"}, "single number with `scope='global'`"),
        ({"sparsity": {"other": 0.5}, "scope": "layer"}, "names of `scores`"),
        ({"sparsity": 0.5, "masks": np.ones((2, 3))}, "boolean array"),
        ({"sparsity": 0.5, "masks": np.ones((3, 2), bool)}, "shape"),
        ({"sparsity": 0.5, "floor": -1}, "`floor` must be an integer >= 0. Received: floor=-1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        masks.top_k_masks(SCORES, **arguments)


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="at least one NaN"):
        masks.top_k_masks(np.array([1.0, np.nan, 2.0]), 0.5)


def test_no_scores_are_refused():
    with pytest.raises(ValueError, match="at least one array"):
        masks.top_k_masks({}, 0.5)


def test_masks_of_other_names_are_refused():
    with pytest.raises(ValueError, match="names of `scores`"):
        masks.top_k_masks({"a": SCORES}, 0.5, masks={"b": SCORES > 0})


def test_nm_is_reached_part_of_the_way():
    scores = np.array([[8.0], [1.0], [7.0], [6.0], [3.0], [2.0], [5.0], [4.0]])
    # The third of the first group is pruned, though its score exceeds all of the second group.
    expected = {
        0.125: [1, 0, 1, 1, 1, 1, 1, 1],
        0.375: [1, 0, 1, 1, 0, 0, 1, 1],
        0.5: [1, 0, 1, 0, 0, 0, 1, 1],
        0.625: [1, 0, 1, 0, 0, 0, 1, 0],
        0.875: [1, 0, 0, 0, 0, 0, 0, 0],
    }
    for sparsity, mask in expected.items():
        found = masks.top_k_masks(scores, sparsity, pattern="2:4")
        np.testing.assert_array_equal(found.reshape(-1), mask)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize(("pattern", "exact"), [("2:4", 0.5), ("1:4", 0.75), ("3:4", 0.25)])
def test_nm_counts_are_exact_and_the_pattern_holds_from_its_sparsity_on(scope, pattern, exact):
    rng = np.random.default_rng(0)
    scores = {"a": rng.normal(size=(40, 7)), "b": rng.normal(size=(2, 4, 50))}
    before = None
    for sparsity in (0.1, 0.2, exact, 0.8, 0.95):
        found = masks.top_k_masks(scores, sparsity, pattern=pattern, scope=scope, masks=before)
        pruned = {name: np.count_nonzero(~mask) for name, mask in found.items()}
        assert sum(pruned.values()) == round(sparsity * 680)
        if scope == "layer":
            assert list(pruned.values()) == [round(sparsity * 280), round(sparsity * 400)]
        for name, mask in found.items():
            groups = mask.reshape(-1, 4, mask.shape[-1]).sum(axis=1)
            if sparsity == exact:
                assert np.all(groups == 4 * (1 - exact))
            assert np.all(groups <= 4 * (1 - exact)) == (sparsity >= exact)
            assert before is None or np.all(before[name] >= mask)
        before = found
        scores = {name: rng.normal(size=array.shape) for name, array in scores.items()}


def test_nm_protects_what_is_alive():
    scores = np.array([[9.0], [8.0], [1.0], [2.0]])
    alive = np.array([[False], [True], [True], [True]])
    found = masks.top_k_masks(scores, 0.5, pattern="2:4", masks=alive)
    np.testing.assert_array_equal(found.reshape(-1), [False, True, False, True])


def test_blocks_are_kept_whole():
    scores = np.array([[1.0, 2.0, 0.0, 9.0], [1.0, 2.0, 3.0, 0.0], [0.0, 1.0, 8.0, 8.0]])
    scores = np.concatenate([scores, np.ones((1, 4))])
    found = masks.top_k_masks(scores, 0.5, pattern="2x1")
    # Means of the columns: 1, 2, 1.5, 4.5 in the upper rows, 0.5, 1, 4.5, 4.5 in the lower.
    np.testing.assert_array_equal(found, [[0, 1, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1]])


def test_blocks_count_as_groups_and_refine():
    rng = np.random.default_rng(0)
    scores = {"a": rng.normal(size=(12, 5)), "b": rng.normal(size=(2, 2, 3, 7))}
    before = None
    for sparsity in (0.3, 0.55, 0.9):
        found = masks.top_k_masks(scores, sparsity, pattern="4x1", scope="global", masks=before)
        pruned = sum(np.count_nonzero(~mask) for mask in found.values())
        assert pruned == 4 * round(sparsity * 36)
        assert all(patterns.get("4x1").holds(mask) for mask in found.values())
        assert before is None or all(np.all(before[name] >= found[name]) for name in found)
        before = found


def test_blocks_keep_what_an_earlier_mask_pruned():
    alive = np.array([[True, True], [False, True], [True, False], [True, False]])
    found = masks.top_k_masks(np.arange(8.0).reshape(4, 2), 0.5, pattern="2x1", masks=alive)
    np.testing.assert_array_equal(found, [[0, 1], [0, 1], [1, 0], [1, 0]])


def test_channels_of_different_size_come_closest_to_the_sparsity_over_weights():
    scores = {"wide": np.array([[1.0, 6.0, 3.0]] * 8), "narrow": np.array([[5.0, 2.0, 4.0]] * 2)}
    # From the highest mean to the lowest: 8, 2, 2, 8, 2 and 8 of the 30 weights.
    expected = {
        0.27: ([0, 1, 1], [1, 1, 1]),
        0.4: ([0, 1, 1], [1, 0, 1]),
        0.5: ([0, 1, 0], [1, 0, 1]),
        0.65: ([0, 1, 0], [1, 0, 0]),
        0.95: ([0, 0, 0], [0, 0, 0]),
    }
    for sparsity, (wide, narrow) in expected.items():
        found = masks.top_k_masks(scores, sparsity, pattern="channel", scope="global", floor=0)
        np.testing.assert_array_equal(found["wide"], [wide] * 8)
        np.testing.assert_array_equal(found["narrow"], [narrow] * 2)


def test_channels_refine():
    scores = {"wide": np.array([[1.0, 6.0, 3.0]] * 8), "narrow": np.array([[5.0, 2.0, 4.0]] * 2)}
    before = {"wide": np.ones((8, 3), bool), "narrow": np.zeros((2, 3), bool)}
    found = masks.top_k_masks(scores, 0.5, pattern="channel", scope="global", masks=before)
    np.testing.assert_array_equal(found["wide"][0], [False, True, True])
    assert not found["narrow"].any()


def test_array_that_the_pattern_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"`scores\['b'\]` must .*2:4 divides.*Received.*\(6, 4\)"):
        masks.top_k_masks({"a": np.ones((8, 3)), "b": np.ones((6, 4))}, 0.5, pattern="2:4")


@pytest.mark.parametrize("pattern", ["2:4", "4x1", "channel"])
@pytest.mark.parametrize("sparsity", [0.25, 0.5])
def test_nan_is_refused_in_every_pattern(pattern, sparsity):
    scores = {"a": np.ones((8, 3)), "b": np.ones((4, 3))}
    scores["a"][5, 1] = np.nan
    with pytest.raises(ValueError, match="`scores` must be numbers. Received: at least one NaN"):
        masks.top_k_masks(scores, sparsity, pattern=pattern)


@pytest.mark.parametrize(
    ("width", "sparsity", "kept"),
    [
        (16, 0.5, 8),
        (16, 0.3, 12),
        (16, 0.9, 4),
        (16, 0.0, 16),
        (10, 0.5, 4),
        (10, 0.05, 10),
        (3, 0.9, 3),
    ],
)
def test_channels_are_kept_in_multiples(width, sparsity, kept):
    scores = np.random.default_rng(0).random((5, width))
    mask = masks.top_k_masks(scores, sparsity, pattern=patterns.Channel(round_to=4))
    best = np.sort(scores.mean(axis=0))[-kept:]
    np.testing.assert_array_equal(mask, np.isin(scores.mean(axis=0), best)[None].repeat(5, 0))


def test_channels_of_several_kernels_are_kept_in_multiples():
    rng = np.random.default_rng(0)
    scores = {
        "low": rng.random((3, 16)),
        "high": 10 + rng.random((5, 8)),
        "odd": rng.random((4, 6)),
    }
    pattern = patterns.Channel(round_to=4)
    found = masks.top_k_masks(scores, 0.4, pattern=pattern, scope="global")
    # Of 48, 40 and 24 weights, 12, 40 and 16 are closest to 60%.
    counts = {name: int(mask[0].sum()) for name, mask in found.items()}
    assert counts == {"low": 4, "high": 8, "odd": 4}
    # What is gone stays so, and what is left need not be a multiple.
    alive = {name: np.ones(array.shape, bool) for name, array in scores.items()}
    alive["high"][:, 1:] = False
    again = masks.top_k_masks(scores, 0.4, pattern=pattern, scope="global", masks=alive)
    assert again["high"].sum() == 5


def test_floor_of_channels():
    scores = {"low": np.arange(6.0)[None], "high": 10 + np.arange(6.0)[None]}
    for scope in ("layer", "global"):
        found = masks.top_k_masks(scores, 0.75, pattern=patterns.Channel(floor=2), scope=scope)
        assert [int(found[name].sum()) for name in scores] == [2, 2]
