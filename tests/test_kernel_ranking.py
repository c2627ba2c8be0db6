import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.kernel_ranking import ranked_masks, target_sparsity


def test_masks_are_ranked_from_any_scores_without_being_set(make_model):
    sparse = tfl.sparsify(make_model("attention"), pattern="3x1")
    scores = {path: np.zeros(kernel.shape) for path, kernel in sparse.kernels.items()}
    output = list(scores)[3]
    scores[output][1, :, 4] = 1.0
    total = sum(score.size for score in scores.values())
    found = ranked_masks(sparse, scores, 1 - 3 / total, scope="global", floor=0)
    assert np.argwhere(found[output]).tolist() == [[1, 0, 4], [1, 1, 4], [1, 2, 4]]
    assert sum(np.count_nonzero(mask) for mask in found.values()) == 3
    assert sparse.density == 1.0
    again = ranked_masks(sparse, scores, 0.5, scope="global", masks=found)
    np.testing.assert_array_equal(again[output], found[output])


@pytest.mark.parametrize("pattern", ["unstructured", "channel"])
def test_scores_that_are_not_numbers_are_named(pattern, make_model):
    sparse = tfl.sparsify(make_model(), pattern=pattern)
    kernel = next(iter(sparse.kernels.values()))
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(ValueError, match=r"NaN in the weights.*one NaN in \['[^']*hidden[^']*'\]"):
        tfl.prune(sparse, 0.5)


def test_target_sparsity(make_model):
    sparse = tfl.sparsify(make_model())
    hidden, output = sparse.kernels
    assert target_sparsity(sparse, 0.9, scope="global") == 0.9
    assert target_sparsity(sparse, {hidden: 0.5, output: 0.0}) == {hidden: 0.5, output: 0.0}
    assert target_sparsity(sparse, 0.9, distribution="uniform") == {hidden: 0.9, output: 0.9}
