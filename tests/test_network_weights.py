import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.network_weights import weights_of


@pytest.mark.parametrize("pattern", ["unstructured", "channel"])
def test_a_snapshot_has_its_own_masks(pattern, make_model):
    sparse = tfl.sparsify(make_model("residual"), pattern=pattern)
    dense = tfl.Snapshot(sparse)
    tfl.prune(sparse, 0.5)
    pruned = tfl.Snapshot(sparse)
    for snapshot, sparsity in ((dense, 0.0), (pruned, 0.5)):
        values = weights_of(sparse, "network", snapshot)
        named = dict(zip(sparse.named_weights, values, strict=True))
        zeros = sum(np.count_nonzero(named[path] == 0) for path in sparse.kernels)
        assert zeros == sparsity * sum(named[path].size for path in sparse.kernels)


@keras.saving.register_keras_serializable("tests")
class Scores(tfl.layers.Selection):
    """Keeps weights with a score above 0. The state is one array per kernel, but no masks."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.scores = []

    def create_variables(self, kernels):
        for i, kernel in enumerate(kernels):
            scores = self.add_weight(shape=kernel.shape, initializer="normal", name=f"scores_{i}")
            self.scores.append(scores)

    def replace(self, values, training):
        pairs = zip(values, self.scores, strict=True)
        return [keras.ops.where(s.value > 0, v, 0.0) for v, s in pairs]

    def kept(self, kernels):
        return [keras.ops.convert_to_numpy(scores) > 0 for scores in self.scores]


def test_the_scores_in_a_snapshot_are_not_taken_for_masks(make_model):
    sparse = tfl.sparsify(make_model(), selection=Scores())
    values = weights_of(sparse, "network", tfl.Snapshot(sparse))
    named = dict(zip(sparse.named_weights, values, strict=True))
    for path, kernel in sparse.get_kernels().items():
        np.testing.assert_array_equal(named[path], kernel)
