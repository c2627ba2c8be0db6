import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.sparsity.masks import top_k_masks


def gradient(weights, x, y):
    """Returns the gradient of the mean squared error of `x @ a @ b` as one vector."""
    a, b = weights[:12].reshape(3, 4), weights[12:].reshape(4, 2)
    error = 2 * (x @ a @ b - y) / y.size
    return np.concatenate([(x.T @ error @ b.T).ravel(), ((x @ a).T @ error).ravel()])


def expected_scores(model, batches):
    """Returns `w * (H g)`, with the Hessian product from central differences."""
    kernels = [keras.ops.convert_to_numpy(kernel) for kernel in model.trainable_variables]
    weights = np.concatenate([kernel.ravel() for kernel in kernels]).astype("float64")

    def flow(w):
        return sum(gradient(w, x, y) for x, y in batches)

    direction = flow(weights)
    step = 1e-5 * direction / np.linalg.norm(direction)
    product = (flow(weights + step) - flow(weights - step)) / 2e-5
    scores = weights * product * np.linalg.norm(direction)
    return [scores[:12].reshape(3, 4), scores[12:].reshape(4, 2)]


def test_scores_are_weight_times_hessian_times_gradient(linear_net, regression_batches, scores_of):
    model = tfl.sparsify(linear_net())
    expected = expected_scores(model.model, regression_batches)
    scores = scores_of("grasp", model, iter(regression_batches), 0.5, loss="mean_squared_error")
    assert min(score.min() for score in expected) < 0
    for score, wanted in zip(scores, expected, strict=True):
        np.testing.assert_allclose(score, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_highest_scores_are_kept(scope, linear_net, regression_batches):
    model = tfl.sparsify(linear_net())
    scores = expected_scores(model.model, regression_batches)
    expected = top_k_masks(dict(zip(model.kernels, scores, strict=True)), 0.5, scope=scope)
    masks = tfl.at_init.grasp(model, regression_batches, 0.5, scope=scope, loss="mse")
    for path, mask in masks.items():
        np.testing.assert_array_equal(mask, expected[path])
        np.testing.assert_array_equal(model.get_masks()[path], mask)


def test_example_by_hand():
    """The loss `sum((w - t)**2) / 2` has the gradient `w - t` and the identity as Hessian.

    With `w = (1, 2, 3)` and `t = (0, 0, 4)` the scores `w * (w - t)` are 1, 4 and -3: pruning
    the largest weight turns its gradient -1 into -4, so it goes first. Of the others, pruning
    the first costs a gradient of 1 and pruning the second a gradient of 2.
    """
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[1.0], [2.0], [3.0]])
    sparse = tfl.sparsify(model)
    batch = (np.eye(3), np.array([[0.0], [0.0], [4.0]]))

    def loss(y, y_pred):
        return keras.ops.sum((y_pred - y) ** 2) / 2

    [mask] = tfl.at_init.grasp(sparse, batch, 1 / 3, loss=loss).values()
    np.testing.assert_array_equal(mask, [[True], [True], [False]])
    [mask] = tfl.at_init.grasp(sparse, batch, 2 / 3, loss=loss).values()
    np.testing.assert_array_equal(mask, [[False], [True], [False]])


def test_temperature_divides_the_outputs(linear_net, scores_of):
    x, y = np.random.default_rng(5).normal(size=(6, 3)), np.array([0, 1, 1, 0, 1, 0])
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def scores(**kwargs):
        return scores_of("grasp", tfl.sparsify(linear_net()), (x, y), 0.5, **kwargs)

    divided = scores(loss=lambda y, y_pred: entropy(y, y_pred / 200))
    cooled, plain = scores(loss=entropy, temperature=200), scores(loss=entropy)
    for a, b, c in zip(divided, cooled, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)
        assert not np.allclose(a, c, rtol=0.1)


@pytest.mark.parametrize("temperature", [0, -1.0, True])
def test_temperature_outside_its_range(temperature, linear_net, regression_batches):
    model = tfl.sparsify(linear_net())
    with pytest.raises(ValueError, match=f"`temperature`.*Received: temperature={temperature}"):
        tfl.at_init.grasp(model, regression_batches, 0.5, loss="mse", temperature=temperature)


def test_batch_normalization_behaves_as_in_training_by_default(
    normalized_net, regression_batches, scores_of
):
    scores = [
        scores_of(
            "grasp", tfl.sparsify(normalized_net), regression_batches, 0.0, loss="mse", **mode
        )
        for mode in ({}, {"training": True}, {"training": False})
    ]
    np.testing.assert_allclose(scores[0][0], scores[1][0], rtol=1e-5)
    assert not np.allclose(scores[0][0], scores[2][0], rtol=0.1)
