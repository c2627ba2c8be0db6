import numpy as np
import pytest

from tf_lottery.sparsity import drop_and_grow, masks, patterns

WEIGHTS = np.array([[4.0, 0.0, -1.0], [0.0, 2.0, -3.0]])
MASK = WEIGHTS != 0
GROW = np.array([[0.0, 0.3, 0.1], [0.2, 0.9, 0.0]])


def by_sorting(weights, mask, grow_scores, drop_fraction):
    """An independent implementation, from the algorithm box of arXiv:1911.11134."""
    weights, mask, grow_scores = (array.reshape(-1) for array in (weights, mask, grow_scores))
    num_dropped = int(mask.sum() * drop_fraction)
    active = [i for i in np.argsort(-np.abs(weights), kind="stable") if mask[i]]
    kept = active[: len(active) - num_dropped]
    others = [i for i in np.argsort(-grow_scores, kind="stable") if i not in set(kept)]
    result = np.zeros(mask.size, bool)
    result[kept + others[:num_dropped]] = True
    return result


def random_update(shape, sparsity, pattern="unstructured", seed=0):
    rng = np.random.default_rng(seed)
    weights, grow_scores = rng.normal(size=shape), rng.random(shape)
    return weights, masks.top_k_masks(np.abs(weights), sparsity, pattern=pattern), grow_scores


def test_smallest_weights_make_room_for_the_highest_scores():
    found = drop_and_grow(WEIGHTS, MASK, GROW, 0.25)
    np.testing.assert_array_equal(found, [[1, 1, 0], [0, 1, 1]])
    # -1 and 2 are dropped; 2 has the highest score of all and is grown again.
    found = drop_and_grow(WEIGHTS, MASK, GROW, 0.5)
    np.testing.assert_array_equal(found, [[1, 1, 0], [0, 1, 1]])


@pytest.mark.parametrize("drop_fraction", [0.0, 0.1, 0.3, 0.5, 0.99])
def test_agrees_with_sorting(drop_fraction):
    rng = np.random.default_rng(3)
    for _ in range(20):
        weights = rng.integers(-3, 4, (9, 7)).astype("float32")
        mask, grow_scores = rng.random((9, 7)) < 0.4, rng.integers(0, 4, (9, 7)) / 4
        found = drop_and_grow(weights, mask, grow_scores, drop_fraction)
        expected = by_sorting(weights, mask, grow_scores, drop_fraction)
        np.testing.assert_array_equal(found.reshape(-1), expected)
        assert found.sum() == mask.sum()


def test_inactive_weights_are_never_kept():
    # Active and inactive weights are all zero, and only active ones may be kept.
    mask = np.arange(1000) < 600
    found = drop_and_grow(np.zeros(1000), mask, np.arange(1000.0), 0.3)
    np.testing.assert_array_equal(found, (np.arange(1000) < 420) | (np.arange(1000) >= 820))


def test_equal_scores_favour_the_lower_index():
    found = drop_and_grow(np.ones(6), np.array([1, 1, 0, 0, 1, 1], bool), np.ones(6), 0.5)
    np.testing.assert_array_equal(found, [1, 1, 1, 1, 0, 0])


def test_nothing_dropped_is_an_equal_mask_of_its_own():
    for fraction in (0.0, 0.2):
        found = drop_and_grow(WEIGHTS, MASK, GROW, fraction)
        np.testing.assert_array_equal(found, MASK)
        assert not np.shares_memory(found, MASK)


def test_number_dropped_is_truncated():
    mask = np.arange(20) < 10
    found = drop_and_grow(np.arange(20.0), mask, np.arange(20.0), 0.39)
    assert np.count_nonzero(mask & ~found) == 3


@pytest.mark.parametrize(("num_grown", "active"), [(0, 3), (1, 4), (2, 5), (3, 6), (100, 6)])
def test_growth_of_its_own_number_fills_what_there_is(num_grown, active):
    found = drop_and_grow(WEIGHTS, MASK, GROW, 0.25, num_grown=num_grown)
    assert found.sum() == active
    assert found[0, 1] == (num_grown > 0)


def test_empty_and_full_masks():
    nothing, everything = np.zeros((2, 3), bool), np.ones((2, 3), bool)
    np.testing.assert_array_equal(drop_and_grow(WEIGHTS, nothing, GROW, 0.5), nothing)
    np.testing.assert_array_equal(
        drop_and_grow(WEIGHTS, nothing, GROW, 0.5, num_grown=1), GROW == 0.9
    )
    assert drop_and_grow(WEIGHTS, everything, GROW, 0.5).all()


@pytest.mark.parametrize(
    ("pattern", "sparsity"), [("2:4", 0.5), ("2:4", 0.8), ("1:4", 0.75), ("4x1", 0.6), ("2x5", 0.5)]
)
def test_patterns_and_density_hold_after_every_update(pattern, sparsity):
    weights, mask, grow_scores = random_update((16, 5), sparsity, pattern)
    start, density = mask, mask.mean()
    for seed in range(1, 20):
        mask = drop_and_grow(weights, mask, grow_scores, 0.3, pattern)
        assert patterns.get(pattern).holds(mask)
        assert mask.mean() == density
        weights, _, grow_scores = random_update((16, 5), 0, seed=seed)
    assert np.any(mask != start)


def test_channels_drop_and_grow_whole():
    weights = np.array([[3.0, 0.0, 1.0, 0.0], [3.0, 0.0, 2.0, 0.0]])
    scores = np.array([[0.0, 0.2, 0.1, 0.9], [0.0, 0.2, 0.1, 0.0]])
    found = drop_and_grow(weights, weights != 0, scores, 0.5, "channel")
    np.testing.assert_array_equal(found, [[1, 0, 0, 1], [1, 0, 0, 1]])


def test_nm_grows_only_where_a_group_has_a_place():
    weights = np.array([[4.0], [3.0], [0.0], [0.0], [1.0], [2.0], [0.0], [0.0]])
    scores = np.array([[0.0], [0.0], [0.9], [0.8], [0.1], [0.0], [0.2], [0.3]])
    found = drop_and_grow(weights, weights != 0, scores, 0.25, "2:4")
    np.testing.assert_array_equal(found.reshape(-1), [1, 1, 0, 0, 0, 1, 0, 1])
    # One more weight is kept than the groups need: the highest score of the first group.
    found = drop_and_grow(weights[::-1], (weights != 0)[::-1], scores, 0.75, "2:4")
    np.testing.assert_array_equal(found.reshape(-1), [0, 0, 1, 1, 0, 0, 1, 1])


def test_nm_fills_every_place_at_most():
    weights, mask, scores = random_update((16, 5), 0.9, "2:4")
    found = drop_and_grow(weights, mask, scores, 0.3, "2:4", num_grown=1000)
    assert np.all(found.reshape(-1, 4, 5).sum(axis=1) == 2)


@pytest.mark.parametrize("pattern", ["4x1", "channel", "2:4"])
def test_mask_outside_its_pattern_is_refused(pattern):
    mask = np.zeros((8, 3), bool)
    mask[:3] = True
    with pytest.raises(ValueError, match=f"`mask` must follow the pattern {pattern}.*Received"):
        drop_and_grow(np.ones((8, 3)), mask, np.ones((8, 3)), 0.3, pattern)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"drop_fraction": 1.0}, "`drop_fraction` must be in"),
        ({"mask": WEIGHTS}, "`mask` must be a boolean array"),
        ({"mask": MASK[:1]}, "`mask` must be a boolean array of shape"),
        ({"grow_scores": GROW.T}, "`grow_scores` must have the shape of `weights`"),
        ({"pattern": "2:4"}, "`weights` must be an array .* 2:4 divides"),
        ({"pattern": "2of4"}, "`pattern`"),
        ({"num_grown": -1}, "`num_grown` must be an integer >= 0"),
        ({"num_grown": 1.5}, "`num_grown` must be an integer >= 0"),
        ({"num_grown": True}, "`num_grown` must be an integer >= 0"),
        ({"weights": WEIGHTS * np.nan}, "`weights` must be numbers"),
        ({"grow_scores": np.where(MASK, np.nan, GROW)}, "`grow_scores` must be numbers"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    usual = {"weights": WEIGHTS, "mask": MASK, "grow_scores": GROW, "drop_fraction": 0.3}
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        drop_and_grow(**{**usual, **arguments})


def test_arguments_are_left_unchanged():
    copies = WEIGHTS.copy(), MASK.copy(), GROW.copy()
    drop_and_grow(WEIGHTS, MASK, GROW, 0.5)
    for array, copy in zip((WEIGHTS, MASK, GROW), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
