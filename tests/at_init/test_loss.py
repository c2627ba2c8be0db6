import keras
import numpy as np
import pytest
from keras import layers, ops

import tf_lottery as tfl


def masks(model, batches, **kwargs):
    kept = tfl.at_init.snip(model, batches, 0.5, **kwargs).values()
    return np.concatenate([mask.ravel() for mask in kept])


@pytest.fixture
def batch(regression_batches):
    return regression_batches[0]


def test_compiled_and_given_losses_agree(linear_net, batch):
    compiled = tfl.sparsify(linear_net())
    compiled.compile("sgd", "mse")
    expected = masks(compiled, batch)
    for loss in ("mse", keras.losses.MeanSquaredError(), lambda y, p: ops.mean((y - p) ** 2)):
        np.testing.assert_array_equal(masks(tfl.sparsify(linear_net()), batch, loss=loss), expected)
    other = masks(tfl.sparsify(linear_net()), batch, loss=lambda y, y_pred: y_pred)
    assert np.any(other != expected)


def test_models_that_run_eagerly(linear_net, batch):
    graph, eager = tfl.sparsify(linear_net("relu")), tfl.sparsify(linear_net("relu"))
    graph.compile("sgd", "mse")
    eager.compile("sgd", "mse", run_eagerly=True)
    np.testing.assert_array_equal(masks(graph, batch), masks(eager, batch))


@pytest.mark.parametrize("loss", [None, "mse", keras.losses.MeanSquaredError()])
def test_examples_of_weight_zero_do_not_count(loss, linear_net, batch):
    def prune(batch):
        model = tfl.sparsify(linear_net())
        model.compile("sgd", "mse")
        return masks(model, batch, loss=loss)

    x, y = batch
    weighted = prune((x, y, np.array([1, 1, 0, 0, 0])))
    np.testing.assert_array_equal(weighted, prune((x[:2], y[:2])))
    assert np.any(weighted != prune(batch))


def test_losses_of_layers_count_and_those_of_weight_regularizers_do_not(batch):
    def prune(**kwargs):
        layer = layers.Dense(2, use_bias=False, **kwargs)
        model = keras.Sequential([keras.Input((3,)), layer])
        layer.kernel.assign(np.linspace(-1, 2, 6).reshape(3, 2))
        sparse = tfl.sparsify(model)
        sparse.compile("sgd", "mse")
        return masks(sparse, batch)

    plain = prune()
    np.testing.assert_array_equal(prune(kernel_regularizer=keras.regularizers.L2(100.0)), plain)
    assert np.any(prune(activity_regularizer=keras.regularizers.L2(100.0)) != plain)


def test_models_with_several_outputs_train_afterwards(linear_net):
    inputs = keras.Input((3,))
    hidden = layers.Dense(4, "relu")(inputs)
    outputs = {"a": layers.Dense(2, name="a")(hidden), "b": layers.Dense(1, name="b")(hidden)}
    model = tfl.sparsify(keras.Model(inputs, outputs))
    model.compile("sgd", {"a": "mse", "b": "mae"}, loss_weights={"a": 1.0, "b": 0.0})
    x, y = np.ones((4, 3)), {"a": np.ones((4, 2)), "b": np.ones((4, 1))}
    with pytest.warns(UserWarning, match="left no weight in .*b/kernel"):
        tfl.at_init.snip(model, (x, y), 0.25, scope="global", floor=0)
    history = model.fit(x, y, verbose=0).history
    assert np.isfinite(history["a_loss"][0]) and np.isfinite(history["b_loss"][0])


def test_a_loss_is_needed(linear_net, batch):
    for method in (tfl.at_init.snip, tfl.at_init.grasp):
        with pytest.raises(ValueError, match="`loss` must be given.*not compiled"):
            method(tfl.sparsify(linear_net()), batch, 0.5)
