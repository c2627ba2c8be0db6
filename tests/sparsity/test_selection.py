import numpy as np
import pytest

from tf_lottery.sparsity.selection import check_numbers, highest, highest_of_sizes


def by_sorting(scores, eligible, count):
    """An independent implementation: a stable sort of the eligible entries."""
    order = [i for i in np.argsort(-scores, kind="stable") if eligible[i]]
    mask = np.zeros(scores.size, bool)
    mask[order[:count]] = True
    return mask


@pytest.mark.parametrize("order", ["C", "F"])
def test_agrees_with_sorting_in_any_memory_order(order):
    rng = np.random.default_rng(0)
    for count in (0, 1, 7, 20, 39, 40, 99):
        parts = [
            np.asarray(rng.integers(-3, 3, shape).astype("float32"), order=order)
            for shape in [(6, 5), (2, 2, 5)]
        ]
        eligible = [np.asarray(rng.random(part.shape) < 0.7, order=order) for part in parts]
        scores, flags = (np.concatenate([a.reshape(-1) for a in x]) for x in (parts, eligible))
        for chosen, flag in ((eligible, flags), (None, np.ones(50, bool))):
            found = highest(parts, count, chosen)
            assert [mask.shape for mask in found] == [(6, 5), (2, 2, 5)]
            np.testing.assert_array_equal(
                np.concatenate([mask.reshape(-1) for mask in found]),
                by_sorting(scores, flag, count),
            )


def test_result_is_new():
    eligible = [np.ones(3, bool)]
    highest([np.ones(3)], 5, eligible)[0][:] = False
    assert eligible[0].all()


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (0, [[0, 0], [0, 0]]),
        (3, [[0, 0], [0, 0]]),
        (4, [[0, 1], [0, 0]]),
        (7, [[0, 1], [0, 0]]),
        (8, [[0, 1], [0, 1]]),
        (99, [[1, 1], [1, 1]]),
    ],
)
def test_sizes_come_closest_to_the_total(total, expected):
    found = highest_of_sizes([np.array([1.0, 4.0]), np.array([2.0, 3.0])], [6, 2], total)
    np.testing.assert_array_equal(found, np.array(expected, bool))


def test_equal_groups_are_selected_in_order():
    scores = np.random.default_rng(0).integers(0, 3, 100).astype("float32")
    [found] = highest_of_sizes([scores], [2], total=90)
    np.testing.assert_array_equal(found, by_sorting(scores, np.ones(100, bool), 45))


def test_only_eligible_groups_are_selected():
    parts, eligible = [np.array([1.0, 4.0]), np.array([2.0, 3.0])], [[True, False], [True, True]]
    found = highest_of_sizes(parts, [6, 2], 4, [np.array(flags) for flags in eligible])
    np.testing.assert_array_equal(found, [[False, False], [True, True]])


def test_nan_is_refused_only_where_it_is_ranked():
    parts = [np.array([1.0, np.nan, 2.0])]
    highest(parts, 1, [np.array([True, False, True])])
    for function in (lambda: highest(parts, 1), lambda: highest_of_sizes(parts, [1], 1)):
        with pytest.raises(ValueError, match="`scores` must be numbers. Received"):
            function()
    check_numbers("scores", np.array([]))
