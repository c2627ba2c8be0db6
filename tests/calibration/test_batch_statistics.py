import keras
import numpy as np
import pytest
from keras import layers

from tf_lottery.calibration.batch_statistics import BatchStatistics


def normalized(momentum=0.99, **kwargs):
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.BatchNormalization(momentum=momentum, name="first", **kwargs),
            layers.Dense(2, use_bias=False, name="dense"),
            layers.BatchNormalization(momentum=momentum, name="second"),
        ]
    )


def batches(*sizes):
    rng = np.random.default_rng(3)
    return [(rng.normal(2, 3, (size, 3)).astype("float32"), None, None) for size in sizes]


def statistics(model, name):
    layer = model.get_layer(name)
    return np.array(layer.moving_mean), np.array(layer.moving_variance)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("eager", [False, True])
def test_means_of_batches_weighted_by_their_sizes(momentum, eager):
    model = normalized(momentum)
    model.get_layer("first").moving_mean.assign([9.0, 9.0, 9.0])
    found = batches(8, 8, 3)
    kernel = np.array(model.get_layer("dense").kernel)
    BatchStatistics(model, eager).update(found)
    means, variances, hidden = [], [], []
    for x, _, _ in found:
        means.append(x.mean(axis=0))
        variances.append(x.var(axis=0))
        normal = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-3)
        hidden.append(normal @ kernel)
    mean, variance = statistics(model, "first")
    np.testing.assert_allclose(mean, np.average(means, axis=0, weights=[8, 8, 3]), rtol=1e-5)
    np.testing.assert_allclose(variance, np.average(variances, axis=0, weights=[8, 8, 3]), 1e-5)
    mean, variance = statistics(model, "second")
    expected = np.average([h.mean(axis=0) for h in hidden], axis=0, weights=[8, 8, 3])
    np.testing.assert_allclose(mean, expected, atol=1e-5)
    expected = np.average([h.var(axis=0) for h in hidden], axis=0, weights=[8, 8, 3])
    np.testing.assert_allclose(variance, expected, rtol=1e-4)
    assert model.get_layer("first").momentum == momentum


def test_one_batch_is_the_population():
    model = normalized()
    ((x, _, _),) = found = batches(50)
    BatchStatistics(model).update(found)
    mean, variance = statistics(model, "first")
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-5)
    # With the new statistics, evaluation gives the outputs of training.
    np.testing.assert_allclose(model(x, training=False), model(x, training=True), atol=1e-5)


def test_a_shared_layer_has_the_mean_over_its_calls():
    inputs = keras.Input((3,))
    shared = layers.BatchNormalization(name="shared")
    model = keras.Model(inputs, [shared(inputs), shared(5.0 * inputs)])
    ((x, _, _),) = found = batches(20)
    BatchStatistics(model).update(found)
    mean, variance = statistics(model, "shared")
    np.testing.assert_allclose(mean, 3 * x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, 13 * x.var(axis=0), rtol=1e-5)


def test_frozen_layers_and_all_other_weights_stay():
    model = normalized()
    model.get_layer("first").trainable = False
    before = [np.array(weight) for weight in model.weights]
    statistics = BatchStatistics(model)
    assert [layer.name for layer in statistics.layers] == ["second"]
    statistics.update(batches(8))
    changed = [
        "/".join(weight.path.split("/")[-2:])
        for weight, value in zip(model.weights, before, strict=True)
        if not np.array_equal(weight, value)
    ]
    assert changed == ["second/moving_mean", "second/moving_variance"]


def test_the_state_of_random_layers_stays():
    model = keras.Sequential([keras.Input((3,)), layers.Dropout(0.5), layers.BatchNormalization()])
    before = [np.array(variable) for variable in model.non_trainable_variables]
    found = []
    for _ in range(2):
        BatchStatistics(model).update(batches(64))
        found.append(np.array(model.layers[1].moving_variance))
    seed = next(i for i, v in enumerate(model.non_trainable_variables) if "seed" in v.name)
    np.testing.assert_array_equal(model.non_trainable_variables[seed], before[seed])
    np.testing.assert_array_equal(*found)
    # Dropout is active: it doubles the values that it keeps.
    assert (found[0] > 1.3 * batches(64)[0][0].var(axis=0)).all()


def test_momentum_returns_after_an_error():
    model = normalized(0.9)
    with pytest.raises(Exception, match="."):
        BatchStatistics(model).update([(np.ones((4, 7), "float32"), None, None)])
    assert model.get_layer("first").momentum == 0.9
