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
