import itertools

import keras
import numpy as np
import pytest

from tf_lottery.sparsity import patterns, top_k_masks
from tf_lottery.sparsity.patterns import NM, Block, Channel, Unstructured

SCORES = np.array(
    [
        [8.0, 1.0],
        [7.0, 2.0],
        [6.0, 3.0],
        [5.0, 4.0],
    ]
)
NAMED = {"unstructured": Unstructured(), "2:4": NM(2, 4), "4x1": Block(4, 1), "channel": Channel()}


def test_unstructured_leaves_scores_and_masks_alone():
    pattern, scores = patterns.get("unstructured"), np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(pattern.pool(scores), scores)
    np.testing.assert_array_equal(pattern.expand(scores > 2, (2, 3)), scores > 2)
    assert pattern.fill(scores, scores > 2) is None


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (Block(2, 1), [[7.5, 1.5], [5.5, 3.5]]),
        (Block(1, 2), [[4.5], [4.5], [4.5], [4.5]]),
        (Block(2, 2), [[4.5], [4.5]]),
        (Channel(), [6.5, 2.5]),
    ],
)
def test_groups_score_their_mean(pattern, expected):
    np.testing.assert_array_equal(pattern.pool(SCORES), expected)


@pytest.mark.parametrize(
    ("pattern", "groups", "expected"),
    [
        (Block(2, 1), [[1, 0], [0, 1]], [[1, 0], [1, 0], [0, 1], [0, 1]]),
        (Block(2, 2), [[0], [1]], [[0, 0], [0, 0], [1, 1], [1, 1]]),
        (Channel(), [0, 1], [[0, 1]] * 4),
    ],
)
def test_groups_expand_to_their_weights(pattern, groups, expected):
    mask = pattern.expand(np.array(groups, bool), (4, 2))
    np.testing.assert_array_equal(mask, expected)
    assert mask.flags.writeable
    assert pattern.holds(mask)
    mask[0, 0] = ~mask[0, 0]
    assert not pattern.holds(mask)


def test_convolutions_have_inputs_first():
    kernel = np.arange(3 * 1 * 4 * 2.0).reshape(3, 1, 4, 2)
    np.testing.assert_array_equal(
        Block(4, 1).pool(kernel), kernel.mean(axis=2).reshape(3, 2), strict=True
    )
    np.testing.assert_array_equal(Channel().pool(kernel), kernel.mean(axis=(0, 1, 2)))
    mask = NM(1, 4).fill(kernel, np.ones(kernel.shape, bool))
    assert mask[:, :, 3].all()
    assert np.count_nonzero(mask) == 6


def test_highest_of_a_group_fill_its_places():
    scores = np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    everything = np.ones((4, 2), bool)
    np.testing.assert_array_equal(
        NM(2, 4).fill(scores, everything), [[0, 1], [1, 1], [0, 0], [1, 0]]
    )
    kept = np.array([[1, 0], [0, 0], [0, 0], [0, 1]], bool)
    np.testing.assert_array_equal(
        NM(2, 4).fill(scores, ~kept, kept), [[0, 1], [0, 0], [0, 0], [1, 0]]
    )


def test_places_agree_with_sorting_every_group():
    rng = np.random.default_rng(0)
    for n, m in ((1, 2), (2, 4), (3, 5), (4, 8)):
        scores = rng.integers(0, 4, (6 * m, 3)).astype("float32")
        scores[rng.random(scores.shape) < 0.1] = -np.inf
        state = rng.integers(0, 3, scores.shape)
        kept, eligible = state == 2, state == 1
        expected = np.zeros(scores.shape, bool)
        for group, unit in itertools.product(range(6), range(3)):
            rows = range(group * m, (group + 1) * m)
            places = max(0, n - sum(kept[row, unit] for row in rows))
            order = sorted((r for r in rows if eligible[r, unit]), key=lambda r: -scores[r, unit])
            expected[order[:places], unit] = True
        np.testing.assert_array_equal(NM(n, m).fill(scores, eligible, kept), expected)


@pytest.mark.parametrize(
    ("mask", "holds"),
    [([1, 1, 0, 0], True), ([1, 0, 0, 0], True), ([1, 1, 0, 1], False)],
)
def test_masks_with_at_most_n_of_m(mask, holds):
    assert NM(2, 4).holds(np.array(mask, bool).reshape(4, 1)) is holds


@pytest.mark.parametrize(
    ("pattern", "shape", "divides"),
    [
        ("2:4", (8, 3), True),
        ("2:4", (6, 4), False),
        ("2:4", (2, 2, 3, 5), True),
        ("4x1", (8, 3), True),
        ("4x1", (3, 3, 3, 64), False),
        ("1x4", (3, 8), True),
        ("1x4", (8, 3), False),
        ("channel", (7, 3), True),
        ("unstructured", (7, 3), True),
    ],
)
def test_kernels_of_whole_groups(pattern, shape, divides):
    assert patterns.get(pattern).divides(shape) is divides


@pytest.mark.parametrize("name", NAMED)
def test_names_and_serialization(name):
    pattern = patterns.get(name)
    assert (pattern, str(pattern)) == (NAMED[name], name)
    config = keras.saving.serialize_keras_object(pattern)
    assert keras.saving.deserialize_keras_object(config) == pattern
    assert patterns.get(config) == pattern


def test_patterns_pass_through():
    pattern = NM(4, 8)
    assert patterns.get(pattern) is pattern


@pytest.mark.parametrize("identifier", ["unstructred", "2:4:8", "4x", "x4", "-2:4", None, 4, {}])
def test_unknown_patterns_are_refused(identifier):
    with pytest.raises(ValueError, match="`pattern` must be .*Received"):
        patterns.get(identifier)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NM(4, 4), "`n` must be below `m`"),
        (lambda: NM(0, 4), "`n` must be an integer > 0"),
        (lambda: NM(1, 2.0), "`m` must be an integer > 0"),
        (lambda: Block(0, 1), "`rows`"),
        (lambda: Block(4, True), "`columns`"),
        (lambda: patterns.get("4:2"), "`n` must be below `m`"),
        (lambda: patterns.get("0x4"), "`rows`"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        make()


def test_channel_has_names_with_a_multiple():
    assert patterns.get("channel:8") == Channel(round_to=8)
    assert str(Channel(round_to=8)) == "channel:8"
    assert patterns.get(keras.saving.serialize_keras_object(Channel(8, floor=3))) == Channel(8, 3)
    for options in ({"round_to": 0}, {"floor": -1}):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}` must"):
            Channel(**options)


def test_patterns_with_unequal_groups_are_refused():
    class FirstRow(patterns.Pattern):
        def pool(self, scores):
            return np.array([scores[0].mean(), scores[1:].mean()])

        def expand(self, group_mask, shape):
            return np.repeat(group_mask, [1, shape[0] - 1])[:, None] & np.ones(shape, bool)

    scores = np.arange(12.0).reshape(4, 3)
    with pytest.raises(ValueError, match="same size.*2 groups with 12 weights in all 1 have 9"):
        top_k_masks(scores, 0.5, pattern=FirstRow())
