import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.export import export_tflite

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite's converter needs TensorFlow"
)


@pytest.fixture(autouse=True)
def refuse_to_convert(monkeypatch):
    def convert(*_):
        raise AssertionError("converted although an argument is wrong")

    monkeypatch.setattr("tf_lottery.export.making.convert", convert)


@pytest.fixture
def path(tmp_path):
    yield tmp_path / "model.tflite"
    assert list(tmp_path.glob("model*")) + list(tmp_path.glob(".*")) == []


def one_weight_model():
    return keras.Sequential([keras.Input((4,)), layers.Dense(1, use_bias=False)])


def functional_model():
    late = keras.Input((6,), name="late")
    early = keras.Input((6,), name="early")
    ids = keras.Input((3,), dtype="int32", name="Ids")
    x = layers.Concatenate()([late, early, layers.Flatten()(layers.Embedding(4, 2)(ids))])
    return keras.Model([late, early, ids], layers.Dense(2)(x))


@on_tensorflow
@pytest.mark.parametrize(
    "argument, value",
    [
        ("model", None),
        ("model", keras.Sequential([layers.Dense(2)])),
        ("model", {"encode": keras.Sequential([keras.Input((2,)), layers.Dense(2)])}),
        ("path", 7),
        ("quantize", "int4"),
        ("quantize", True),
        ("storage", "csr"),
        ("optimize_for", "size"),
        ("tolerance", 0.0),
        ("tolerance", float("nan")),
        ("tolerance", "1e-4"),
        ("runs", 0),
        ("runs", 2.5),
        ("seed", "a"),
        ("seed", -1),
        ("sample_inputs", np.full((2, 4), np.nan)),
    ],
)
def test_wrong_argument_is_named(argument, value, path):
    arguments = {"model": one_weight_model(), "path": path}
    with pytest.raises(ValueError, match=rf"(?s)Argument `{argument}` must .*Received: .+"):
        export_tflite(**{**arguments, argument: value})


@on_tensorflow
@pytest.mark.parametrize("argument", ["sample_inputs", "representative_data"])
@pytest.mark.parametrize(
    "samples",
    [
        np.ones((2, 5)),
        np.ones(4),
        np.ones((0, 4)),
        [np.ones((2, 4)), np.ones((2, 4))],
        {"other": np.ones((2, 4)), "input": np.ones((2, 4))},
        np.array([["a"] * 4]),
    ],
    ids=["width", "no batch", "empty", "two", "two by name", "text"],
)
def test_samples_of_a_wrong_shape(argument, samples, path):
    quantize = "int8" if argument == "representative_data" else None
    with pytest.raises(ValueError, match=rf"`{argument}`.*\(None, 4\) float32.*Received: "):
        export_tflite(one_weight_model(), path, quantize=quantize, **{argument: samples})


@on_tensorflow
def test_samples_that_do_not_fit_each_other_or_the_inputs(path):
    model = functional_model()
    floats, ids = np.ones((2, 6)), np.ones((2, 3), "int32")
    with pytest.raises(ValueError, match=r"same number.*Received: .*\(3, 6\) float64"):
        export_tflite(model, path, [floats, np.ones((3, 6)), ids])
    with pytest.raises(ValueError, match=r"'Ids': '\(None, 3\) int32'.*Received: .*float64'\]"):
        export_tflite(model, path, [floats, floats, 1.0 * ids])
    with pytest.raises(ValueError, match=r"'late': .*Received: .*'a': "):
        export_tflite(model, path, {"a": floats, "b": floats, "c": ids})


@on_tensorflow
def test_path_that_cannot_be_written(tmp_path):
    sparse = tfl.sparsify(one_weight_model())
    missing = tmp_path / "missing" / "model.tflite"
    with pytest.raises(FileNotFoundError, match=r"`path`.*Received: '.*missing.model\.tflite'"):
        export_tflite(sparse, missing)
    with pytest.raises(IsADirectoryError, match=r"`path`.*Received: '.*'"):
        export_tflite(sparse, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="`path`"):
        export_tflite(sparse, tmp_path / "file" / "model.tflite")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_other_backend_is_told_the_way_out(path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    message = r"model\.save.*KERAS_BACKEND=tensorflow tf-lottery export FILE.*Received: .*'jax'"
    with pytest.raises(RuntimeError, match=message):
        export_tflite(one_weight_model(), path)


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="the process it starts has a backend of its own"
)
def test_import_needs_neither_tensorflow_nor_the_interpreter():
    code = (
        "import sys, tf_lottery.export\n"
        "print(*{'tensorflow', 'ai_edge_litert', 'ai_edge_quantizer'} & {*sys.modules})"
    )
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


@on_tensorflow
def test_representative_data_have_the_shapes_of_the_samples(path):
    model = keras.Sequential([keras.Input((None, 4)), layers.LSTM(3, unroll=True)])
    typical = {"quantize": "int8", "representative_data": np.ones((9, 7, 4))}
    with pytest.raises(ValueError, match=r"`representative_data` must have .*\(5, 4\).*\(7, 4\)"):
        export_tflite(model, path, np.ones((2, 5, 4)), **typical)
    typical["representative_data"][0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="`representative_data` must be finite"):
        export_tflite(model, path, **typical)
