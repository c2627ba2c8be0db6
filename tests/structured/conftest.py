"""Small models for channel groups, and a check of groups by brute force."""

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.sparsity.groups import combined_masks


@pytest.fixture
def check_by_force():
    """Returns a function that prunes a part of all groups, and checks that nothing leaks.

    With kernels and companions of the pruned channels at zero, what reads these channels must
    not matter: the readers get other values there, and the outputs must not change at all.
    """

    def check_by_force(model, inputs, seed=0, rules=None):
        groups = tfl.channel_groups(model, rules=rules)
        assert len(groups)
        rng = np.random.default_rng(seed)
        weights = {weight.path: weight for weight in model.weights}
        for weight in weights.values():
            if len(weight.shape) < 2:
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            else:
                weight.assign(rng.normal(size=weight.shape) / np.sqrt(np.prod(weight.shape[:-1])))
        kept = {group.name: rng.random(group.width) < 0.5 for group in groups}
        dense = predict(model, inputs)
        for key, mask in combined_masks(list(groups), kept, groups.shapes).items():
            weights[key].assign(keras.ops.convert_to_numpy(weights[key]) * mask)
        expected = predict(model, inputs)
        for group in groups:
            for member in group.readers:
                values = np.array(keras.ops.convert_to_numpy(weights[member.key]))
                pruned = member.positions[~kept[group.name]]
                moved = np.moveaxis(values, member.axis, 0)
                # Zeros of other groups' masks in the same kernel stay zeros.
                moved[pruned] = 3 * moved[pruned]
                weights[member.key].assign(values)
        found = predict(model, inputs)
        for old, new, first in zip(expected, found, dense, strict=True):
            assert np.isfinite(old).all()
            assert not np.allclose(old, first, rtol=1e-3)
            np.testing.assert_array_equal(new, old)
        return groups

    return check_by_force


def predict(model, inputs):
    outputs = keras.tree.flatten(model(inputs, training=False))
    return [keras.ops.convert_to_numpy(x) for x in outputs]
