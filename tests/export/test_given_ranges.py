import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl


def dense():
    return [keras.Input((6,)), layers.Dense(12, "relu"), layers.Dense(5)]


def convolution():
    return [
        keras.Input((6, 6, 2)),
        layers.Conv2D(6, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.DepthwiseConv2D(2, activation="relu6"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(5),
    ]


@pytest.mark.parametrize("make_layers", [dense, convolution])
def test_int8_file_computes_what_training_computed(make_layers, tmp_path):
    # Not above, so that tests are collected where LiteRT is not installed.
    from tf_lottery.export.tasks import interpret

    model = tfl.sparsify(keras.Sequential(make_layers()), 0.5)
    tweak = tfl.retrain.fake_quantization(model)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, *model.input_shape[1:])).astype("float32")
    for _ in range(2):
        model(x, training=True)
    # Narrow enough for values that only these ranges clip.
    for tracked in tweak.ranges[1:]:
        tracked.limits.assign(0.6 * keras.ops.convert_to_numpy(tracked.limits))
    before = [weight.copy() for weight in model.get_weights()]
    expected, plain = (keras.ops.convert_to_numpy(f(x)) for f in (model, model.model))
    path = tmp_path / "model.tflite"
    tfl.export_tflite(model, path, x[:8], "int8", representative_data=x, runs=1)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    np.testing.assert_array_equal(model(x), expected)
    steps = [{"input_0": row[None]} for row in x]
    results = interpret.run(path.read_bytes(), steps, "reference")
    found = np.concatenate([next(iter(result.values())) for result in results])
    low, high = tweak.ranges[-1].range()
    step = (high - low) / 255
    assert np.abs(found - expected).max() < 2.1 * step
    assert np.mean(np.abs(found - expected) > step / 2) < 0.2
    assert np.abs(found - plain).max() > 10 * step


def test_rounding_in_a_layer_of_the_users_stays(tmp_path):
    import tensorflow as tf

    class Rounding(layers.Layer):
        def call(self, x):
            return tf.quantization.fake_quant_with_min_max_args(x, -1.0, 1.0)

    model = keras.Sequential([keras.Input((4,)), Rounding(), layers.Dense(2)])
    x = np.random.default_rng(0).uniform(-1, 1, (8, 4)).astype("float32")
    report = tfl.export_tflite(tfl.sparsify(model, 0.5), tmp_path / "model.tflite", x, runs=1)
    assert report.max_difference < 1e-5
