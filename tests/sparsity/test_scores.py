import numpy as np
import pytest

from tf_lottery.sparsity import scores

FINAL = np.array([[3.0, -2.0], [-1.0, 0.5]])
INITIAL = np.array([[1.0, -3.0], [2.0, 0.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("magnitude", [[3.0, 2.0], [1.0, 0.5]]),
        ("movement", [[2.0, 1.0], [3.0, 0.5]]),
        ("magnitude_increase", [[2.0, -1.0], [-1.0, 0.5]]),
        ("large_final_same_sign", [[3.0, 2.0], [0.0, 0.0]]),
        ("large_final", [[3.0, 2.0], [1.0, 0.5]]),
        ("small_final", [[-3.0, -2.0], [-1.0, -0.5]]),
        ("large_init", [[1.0, 3.0], [2.0, 0.0]]),
        ("small_init", [[-1.0, -3.0], [-2.0, 0.0]]),
        # The ranks are 3, 2, 1, 0 by final and 1, 3, 2, 0 by initial magnitude.
        ("large_init_large_final", [[0.25, 0.5], [0.25, 0.0]]),
        ("small_init_small_final", [[0.0, 0.0], [0.25, 0.75]]),
        ("movement_same_sign", [[2.0, 1.0], [0.0, 0.0]]),
        ("movement_different_sign", [[0.0, 0.0], [3.0, 0.5]]),
        ("magnitude_different_sign", [[0.0, 0.0], [1.0, 0.5]]),
        # Entries that do not count get the lowest score.
        ("magnitude_increase_same_sign", [[2.0, -1.0], [-1.0, -1.0]]),
    ],
)
def test_formulas(name, expected):
    found = scores.get(name)(FINAL, initial_weights=INITIAL, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(found, expected)


def test_random_depends_on_its_generator_alone():
    first, again, other = (
        scores.random(FINAL, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == FINAL.shape
    assert np.all(first != other)


def test_functions_pass_through():
    assert scores.get(scores.movement) is scores.movement


def test_a_sign_makes_a_score_of_any_function():
    score = scores.different_sign(lambda weights, initial_weights, rng: weights)
    np.testing.assert_array_equal(
        score(FINAL, initial_weights=INITIAL), [[-2.0, -2.0], [-1.0, 0.5]]
    )
    assert scores.get("movement_same_sign").__name__ == "movement_same_sign"


def test_weights_above_one_percentile_of_both_magnitudes_score_highest():
    rng = np.random.default_rng(0)
    initial, final = rng.normal(size=(2, 50, 40))
    found = scores.large_init_large_final(final, initial_weights=initial)
    for percent in (10, 50, 90):
        above = np.ones(final.shape, bool)
        for values in (np.abs(initial), np.abs(final)):
            above &= values > np.percentile(values, percent)
        assert found[above].min() > found[~above].max()


@pytest.mark.parametrize(
    "name",
    [
        "movement",
        "magnitude_increase",
        "large_final_same_sign",
        "large_init",
        "small_init",
        "large_init_large_final",
        "small_init_small_final",
        "magnitude_same_sign",
    ],
)
def test_missing_initial_weights_are_named(name):
    with pytest.raises(ValueError, match="initial_weights"):
        scores.get(name)(FINAL)


def test_missing_generator_is_named():
    with pytest.raises(ValueError, match="`rng`"):
        scores.random(FINAL)


@pytest.mark.parametrize("identifier", ["magnitud", "magnitud_same_sign", "_same_sign", None, 3])
def test_unknown_scores_are_refused(identifier):
    with pytest.raises(ValueError, match="`scores` must be .*Received"):
        scores.get(identifier)
