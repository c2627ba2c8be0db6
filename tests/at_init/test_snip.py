import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.sparsity.masks import top_k_masks


def gradients(kernels, x, y):
    """Returns the gradients of the mean squared error of `x @ a @ b`, derived by hand."""
    a, b = kernels
    error = 2 * (x @ a @ b - y) / y.size
    return [x.T @ error @ b.T, (x @ a).T @ error]


def expected_scores(model, batches):
    kernels = [keras.ops.convert_to_numpy(kernel) for kernel in model.trainable_variables]
    per_batch = [gradients(kernels, x, y) for x, y in batches]
    return [np.abs(w * sum(g)) for w, *g in zip(kernels, *per_batch, strict=True)]


def test_scores_are_magnitudes_of_weight_times_summed_gradient(
    linear_net, regression_batches, scores_of
):
    model = tfl.sparsify(linear_net())
    expected = expected_scores(model.model, regression_batches)
    scores = scores_of("snip", model, regression_batches, 0.5, loss="mean_squared_error")
    for score, wanted in zip(scores, expected, strict=True):
        np.testing.assert_allclose(score, wanted, rtol=1e-4)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.75])
def test_highest_scores_are_kept(scope, sparsity, linear_net, regression_batches):
    model = tfl.sparsify(linear_net())
    scores = expected_scores(model.model, regression_batches)
    expected = top_k_masks(dict(zip(model.kernels, scores, strict=True)), sparsity, scope=scope)
    masks = tfl.at_init.snip(model, regression_batches, sparsity, scope=scope, loss="mse")
    for path, mask in masks.items():
        np.testing.assert_array_equal(mask, expected[path])
        np.testing.assert_array_equal(model.get_masks()[path], mask)
    assert sum(map(np.count_nonzero, masks.values())) == round((1 - sparsity) * 20)


def test_example_by_hand():
    """Of three inputs with weights 1, 2, 3 and gradients 8, 2, -4, the products are 8, 4, 12."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[1.0], [2.0], [3.0]])
    sparse = tfl.sparsify(model)
    batch = (np.array([[8.0, 2.0, -4.0]]), np.zeros((1, 1)))
    [mask] = tfl.at_init.snip(sparse, batch, 1 / 3, loss=lambda y, y_pred: y_pred).values()
    np.testing.assert_array_equal(mask, [[True], [False], [True]])
    [mask] = tfl.at_init.snip(sparse, batch, 2 / 3, loss=lambda y, y_pred: y_pred).values()
    np.testing.assert_array_equal(mask, [[False], [False], [True]])


def test_batch_normalization_uses_its_statistics_by_default(
    normalized_net, regression_batches, scores_of
):
    scores = [
        scores_of("snip", tfl.sparsify(normalized_net), regression_batches, 0.0, loss="mse", **mode)
        for mode in ({}, {"training": False}, {"training": True})
    ]
    np.testing.assert_array_equal(scores[0][0], scores[1][0])
    assert not np.allclose(scores[0][0], scores[2][0], rtol=0.1)
