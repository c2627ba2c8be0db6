import numpy as np
import pytest

import tf_lottery as tfl


def test_same_seed_same_masks(make_model):
    masks = [
        tfl.at_init.random(tfl.sparsify(make_model()), 0.5, seed=seed) for seed in (0, 0, 1, [0, 1])
    ]
    flat = [np.concatenate([mask.ravel() for mask in m.values()]) for m in masks]
    np.testing.assert_array_equal(flat[0], flat[1])
    assert np.any(flat[0] != flat[2])
    assert np.any(flat[0] != flat[3])


@pytest.mark.parametrize(("scope", "counts"), [("layer", [24, 12]), ("global", None)])
def test_counts_are_exact(scope, counts, make_model):
    masks = tfl.at_init.random(tfl.sparsify(make_model()), 0.5, scope=scope)
    found = [int(mask.sum()) for mask in masks.values()]
    assert sum(found) == 36
    assert counts is None or found == counts


def test_masks_do_not_depend_on_the_weights(make_model):
    models = [tfl.sparsify(make_model()) for _ in range(2)]
    for kernel in models[1].wrapper.kernels:
        kernel.assign(-3 * kernel.value)
    masks = [tfl.at_init.random(model, 0.5).values() for model in models]
    for a, b in zip(*masks, strict=True):
        np.testing.assert_array_equal(a, b)
