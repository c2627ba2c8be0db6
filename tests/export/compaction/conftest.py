"""Randomizes the weights of models, and compares models with their smaller ones."""

import keras
import numpy as np
import pytest

import tf_lottery as tfl


@pytest.fixture
def randomize():
    """Returns a function that randomizes all weights and prunes kernels by magnitude.

    Biases and statistics get values far from the initial ones, which would hide mistakes.
    """

    def randomize(model, sparsity, seed=0):
        rng = np.random.default_rng(seed)
        for variable in model.weights:
            if variable.name in ("gamma", "moving_variance"):
                variable.assign(rng.uniform(0.5, 1.5, variable.shape))
            elif len(variable.shape) < 2:
                variable.assign(rng.normal(0, 0.5, variable.shape))
            else:
                values = rng.normal(0, 1, variable.shape)
                num_pruned = round(sparsity * values.size)
                values.flat[np.argsort(abs(values), axis=None)[:num_pruned]] = 0.0
                fan_in = max(1, np.count_nonzero(values) / values.shape[-1])
                variable.assign(values / np.sqrt(fan_in))
        return model

    return randomize


@pytest.fixture
def compact_and_compare():
    """Returns a function that compacts a model and checks its outputs and original weights.

    The difference may be a fraction `tolerance` of the largest output.
    """

    def compact_and_compare(model, inputs, tolerance=1e-5, **kwargs):
        before = [np.array(weight) for weight in model.get_weights()]
        smaller, report = tfl.compact(model, **kwargs)
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(new, old)
        expected, found = model(inputs), smaller(inputs)
        keras.tree.assert_same_structure(expected, found)
        pairs = zip(keras.tree.flatten(expected), keras.tree.flatten(found), strict=True)
        for old, new in pairs:
            old, new = keras.ops.convert_to_numpy(old), keras.ops.convert_to_numpy(new)
            assert old.dtype == new.dtype
            old, new = old.astype("float64"), new.astype("float64")
            scale = abs(old).max()
            assert np.isfinite(scale) and scale > 0
            np.testing.assert_allclose(new, old, rtol=0, atol=tolerance * scale)
        assert smaller.count_params() == report.parameters_after
        assert model.count_params() == report.parameters_before
        return smaller, report

    return compact_and_compare
