"""A selection from all combinations of models, sparsities, patterns and precisions."""

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite's converter needs TensorFlow"
)


def lenet():
    x = inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(x)
    for units in (64, 32):
        x = layers.Dense(units, "relu")(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def odd_widths():
    x = inputs = keras.Input((302,))
    for units in (30, 28, 13):
        x = layers.Dense(units, "relu")(x)
    return keras.Model(inputs, layers.Dense(5)(x))


def vgg():
    x = inputs = keras.Input((8, 8, 3))
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


def mobilenet():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu6")(x)
    for filters in (32, 64):
        x = layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
        x = layers.Conv2D(filters, 1, activation="relu6")(x)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def lstm():
    inputs = keras.Input((4, 28))
    return keras.Model(inputs, layers.Dense(3)(layers.LSTM(16)(inputs)))


def unrolled_lstm():
    inputs = keras.Input((3, 28))
    return keras.Model(inputs, layers.Dense(3)(layers.LSTM(16, unroll=True)(inputs)))


def gru():
    inputs = keras.Input((4, 30))
    return keras.Model(inputs, layers.Dense(3)(layers.GRU(16)(inputs)))


def transformer():
    inputs = keras.Input((4, 16))
    x = layers.LayerNormalization()(inputs + layers.MultiHeadAttention(2, 8)(inputs, inputs))
    y = layers.Dense(16)(layers.Dense(64, "gelu")(x))
    return keras.Model(inputs, layers.Dense(3)(layers.LayerNormalization()(x + y)))


TOLERANCES = {None: 1e-5, "float16": 5e-3, "weight_int8": 3e-2, "dynamic_int8": 0.1, "int8": 0.1}
CELLS = [
    # model, pattern, sparsity, quantize, storage, optimize_for, storage written
    (odd_widths, "unstructured", 0.98, None, "sparse", "disk", "sparse"),
    (lenet, "unstructured", 0.0, None, "auto", "disk", "dense"),
    (lenet, "4x1", 0.9, None, "sparse", "latency", "sparse"),
    (lenet, "16x1", 0.9, "dynamic_int8", "sparse", "latency", "sparse"),
    (vgg, "unstructured", 0.9, "float16", "auto", "disk", "sparse"),
    (vgg, "unstructured", 0.8, "int8", "sparse", "disk", "sparse"),
    (mobilenet, "2:4", 0.5, "weight_int8", "dense", "disk", "dense"),
    (lstm, "unstructured", 0.9, "weight_int8", "auto", "disk", "sparse"),
    (unrolled_lstm, "unstructured", 0.8, "int8", "auto", "disk", "dense"),
    (gru, "unstructured", 0.98, None, "auto", "download", "sparse"),
    (transformer, "4x1", 0.9, "dynamic_int8", "auto", "disk", None),
]


@pytest.mark.parametrize(
    "build, pattern, sparsity, quantize, storage, optimize_for, written",
    CELLS,
    ids=[f"{cell[0].__name__}-{cell[1]}-{cell[2]}-{cell[3]}" for cell in CELLS],
)
def test_file_is_right(
    build, pattern, sparsity, quantize, storage, optimize_for, written, tmp_path, run_file
):
    model = build()
    sparse = tfl.sparsify(model, sparsity=sparsity, pattern=pattern)
    x = np.random.default_rng(0).normal(size=(6, *model.input_shape[1:])).astype("float32")
    given = {"representative_data": x} if quantize == "int8" else {"sample_inputs": x}
    path = tmp_path / "model.tflite"
    # The median of many runs: of few, one that other load interrupts would decide the storage.
    report = tfl.export_tflite(
        sparse,
        path,
        quantize=quantize,
        storage=storage,
        optimize_for=optimize_for,
        runs=25,
        **given,
    )
    content = path.read_bytes()
    assert report.storage == written or written is None
    assert report.num_bytes == len(content) and report.quantize == quantize
    assert (report.stored_sparsity > 0) == (report.storage == "sparse")
    expected = keras.ops.convert_to_numpy(model(x, training=False))
    limit = TOLERANCES[quantize] * np.abs(expected).max()
    for delegates in (True, False):
        outputs = [run_file(content, x[i : i + 1], delegates=delegates)[0] for i in range(len(x))]
        assert np.abs(np.concatenate(outputs) - expected).max() <= limit


@pytest.mark.parametrize(
    "build, arguments, message",
    [
        (lstm, {"quantize": "int8"}, "'int8' for a model with recurrent .*'dynamic_int8'.*lstm"),
        (lenet, {"quantize": "dynamic_int8", "storage": "sparse"}, '`pattern="16x1"`.*weight_i'),
        (lenet, {"quantize": "float16", "representative_data": None}, "None unless quantize='int"),
    ],
)
def test_combination_that_cannot_work_is_refused_before_conversion(
    build, arguments, message, tmp_path, monkeypatch
):
    def convert(*_):
        raise AssertionError("converted although the combination cannot work")

    monkeypatch.setattr("tf_lottery.export.making.convert", convert)
    model = build()
    sparse = tfl.sparsify(model, sparsity=0.5)
    if "representative_data" in arguments or arguments["quantize"] == "int8":
        arguments = {**arguments, "representative_data": np.ones((2, *model.input_shape[1:]))}
    path = tmp_path / "model.tflite"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=f"(?s){message}"):
        tfl.export_tflite(sparse, path, **arguments)
    assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]
    assert path.read_bytes() == b"before"
