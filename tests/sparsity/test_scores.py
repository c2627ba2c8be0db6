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


@pytest.mark.parametrize("name", ["movement", "magnitude_increase", "large_final_same_sign"])
def test_missing_initial_weights_are_named(name):
    with pytest.raises(ValueError, match="initial_weights"):
        scores.get(name)(FINAL)


def test_missing_generator_is_named():
    with pytest.raises(ValueError, match="`rng`"):
        scores.random(FINAL)


@pytest.mark.parametrize("identifier", ["magnitud", None, 3])
def test_unknown_scores_are_refused(identifier):
    with pytest.raises(ValueError, match="`scores` must be .*Received"):
        scores.get(identifier)
