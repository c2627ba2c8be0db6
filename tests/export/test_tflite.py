import gzip
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.export import ExportError, ExportReport, StoredFile, export_tflite, tflite

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite's converter needs TensorFlow"
)


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(0)


def mlp():
    initializer = keras.initializers.RandomNormal(seed=1)
    return keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(32, activation="relu", bias_initializer=initializer),
            layers.Dense(4, bias_initializer=initializer),
        ]
    )


def one_weight_model(value=1234.5, width=4):
    model = keras.Sequential([keras.Input((width,)), layers.Dense(1, use_bias=False)])
    kernel = np.arange(1.0, width + 1)[:, None]
    kernel[0] = value
    model.set_weights([kernel])
    return model


def misfiring_kernel():
    """More than 96.5% zeros and a width of 302, so that the converter drops two inputs."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(302, 64)) * (rng.random((302, 64)) < 0.02)
    kernel[300:, :2] = 1.0
    return kernel


def dense_model(kernel):
    model = keras.Sequential([keras.Input(kernel.shape[:1]), layers.Dense(kernel.shape[1])])
    model.set_weights([kernel, np.zeros(kernel.shape[1])])
    return model


def run(path, **inputs):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(path)).get_signature_runner()(**inputs)


def replace_in_files(monkeypatch, old, new):
    """Makes the converter write `new` wherever the files have the float32 `old`."""
    convert = tflite._convert
    old, new = np.float32(old).tobytes(), np.float32(new).tobytes()

    def spoiled(*args):
        contents = convert(*args)
        assert all(content.count(old) == 1 for content in contents.values())
        return {name: content.replace(old, new) for name, content in contents.items()}

    monkeypatch.setattr(tflite, "_convert", spoiled)


def refuse_to_convert(*args):
    raise AssertionError("converted although an argument is wrong")


@on_tensorflow
def test_file_computes_what_the_sparse_model_computes(tmp_path):
    sparse = tfl.sparsify(mlp(), sparsity=0.9)
    for kernel in sparse.kernels.values():
        kernel.assign(kernel + 0.01)
    path = tmp_path / "model.tflite"
    export_tflite(sparse, path)
    x = np.random.default_rng(5).normal(size=(1, 64)).astype("float32")
    expected = keras.ops.convert_to_numpy(sparse(x))
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(run(path, input_0=x)["output_0"], expected, atol=1e-6)
    assert os.listdir(tmp_path) == ["model.tflite"]


@on_tensorflow
def test_report_describes_the_written_file(tmp_path):
    path = tmp_path / "model.tflite"
    report = export_tflite(tfl.sparsify(mlp(), sparsity=0.9), str(path), runs=3)
    content = path.read_bytes()
    assert isinstance(report, ExportReport) and isinstance(report.dense, StoredFile)
    assert report.path == str(path) and report.storage == "sparse"
    assert report.num_bytes == len(content)
    assert report.gzip_bytes == len(gzip.compress(content, 9))
    kernels, biases = 64 * 32 + 32 * 4, 32 + 4
    kept = 64 * 32 - round(0.9 * 64 * 32) + 32 * 4 - round(0.9 * 32 * 4)
    assert report.stored_sparsity == pytest.approx(1 - (kept + biases) / (kernels + biases))
    assert 4 * (kernels + biases) < report.dense.num_bytes < 4 * (kernels + biases) + 4000
    assert report.ratio == report.num_bytes / report.dense.num_bytes < 0.6
    assert 0 <= report.max_difference < 1e-6
    assert report.latency_ms > 0 and report.dense.latency_ms > 0


def test_report_as_dict_and_text():
    dense = StoredFile(num_bytes=8000, gzip_bytes=5000, latency_ms=0.25)
    report = ExportReport(
        path="model.tflite",
        storage="sparse",
        num_bytes=2000,
        gzip_bytes=1500,
        stored_sparsity=0.875,
        max_difference=2e-7,
        latency_ms=0.125,
        dense=dense,
    )
    assert report.ratio == 0.25
    data = json.loads(json.dumps(report.to_dict()))
    assert data["ratio"] == 0.25 and data["dense"]["gzip_bytes"] == 5000
    rows = [line.split() for line in str(report).splitlines()]
    assert ["│", "sparse", "(written)", "│", "2,000", "│", "1,500", "│", "0.1250", "│"] in rows
    assert ["│", "dense", "│", "8,000", "│", "5,000", "│", "0.2500", "│"] in rows
    assert ["│", "ratio", "│", "0.250", "│", "0.300", "│", "0.500", "│"] in rows
    assert "87.50%" in str(report) and "2.0e-07" in str(report)


@on_tensorflow
def test_dense_storage_stores_the_zeros(tmp_path):
    sparse = tfl.sparsify(mlp(), sparsity=0.9)
    path = tmp_path / "model.tflite"
    report = export_tflite(sparse, path, storage="dense")
    assert report.storage == "dense" and report.stored_sparsity == 0 and report.ratio == 1
    assert report.num_bytes == path.stat().st_size > 4 * 64 * 32
    assert report.dense == StoredFile(report.num_bytes, report.gzip_bytes, report.latency_ms)


@on_tensorflow
def test_model_stays_as_it_was(tmp_path):
    model = mlp()
    model.compile("adam", "mse")
    model.fit(np.ones((2, 64)), np.ones((2, 4)), verbose=0)
    weights, optimizer = model.get_weights(), model.optimizer
    state = [keras.ops.convert_to_numpy(variable) for variable in optimizer.variables]
    export_tflite(model, tmp_path / "model.tflite", storage="dense", runs=1)
    assert model.compiled and model.optimizer is optimizer and model.loss == "mse"
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for old, new in zip(state, optimizer.variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))
    model.fit(np.ones((2, 64)), np.ones((2, 4)), verbose=0)


@on_tensorflow
def test_dropout_and_batch_normalization_are_in_inference_mode(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3),
            layers.BatchNormalization(
                moving_mean_initializer=keras.initializers.RandomNormal(seed=1),
                moving_variance_initializer=keras.initializers.RandomUniform(0.5, 2.0, seed=1),
            ),
            layers.ReLU(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    sparse = tfl.sparsify(model, sparsity=0.8)
    x = np.random.default_rng(5).normal(size=(1, 8, 8, 3)).astype("float32")
    report = export_tflite(sparse, tmp_path / "model.tflite", runs=1)
    output = run(report.path, input_0=x)["output_0"]
    np.testing.assert_allclose(output, sparse(x, training=False), atol=1e-6)
    assert np.abs(output - sparse(x, training=True)).max() > 1e-2


@on_tensorflow
@pytest.mark.parametrize("layer", [layers.LSTM, layers.GRU])
def test_recurrent_layers(layer, tmp_path):
    model = keras.Sequential([keras.Input((5, 8)), layer(16), layers.Dense(2)])
    report = export_tflite(tfl.sparsify(model, sparsity=0.9), tmp_path / "model.tflite", runs=1)
    assert report.stored_sparsity > 0.8 and report.ratio < 1 and report.max_difference < 1e-6


@on_tensorflow
def test_stateful_layer_keeps_its_state(tmp_path):
    recurrent = layers.SimpleRNN(4, stateful=True)
    model = keras.Sequential([keras.Input((5, 8), batch_size=1), recurrent])
    model(np.ones((1, 5, 8)))
    state = keras.ops.convert_to_numpy(recurrent.states[0])
    export_tflite(model, tmp_path / "model.tflite", storage="dense", runs=1)
    assert np.any(state)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(recurrent.states[0]), state)


def functional_model(as_dict):
    late = keras.Input((6,), name="late")
    early = keras.Input((6,), name="early")
    ids = keras.Input((3,), dtype="int32", name="Ids")
    embedded = layers.Flatten()(layers.Embedding(4, 2)(ids))
    hidden = layers.Concatenate()([2 * late, -3 * early, embedded])
    outputs = [layers.Dense(2)(hidden), layers.Dense(2)(hidden)]
    if as_dict:
        inputs = {"late": late, "early": early, "Ids": ids}
        return keras.Model(inputs, {"second": outputs[0], "first": outputs[1]})
    return keras.Model([late, early, ids], outputs)


@on_tensorflow
@pytest.mark.parametrize("as_dict, samples_as_dict", [(False, False), (False, True), (True, True)])
def test_several_inputs_and_outputs_keep_their_names(as_dict, samples_as_dict, tmp_path):
    model = functional_model(as_dict)
    rng = np.random.default_rng(0)
    x = {"late": rng.normal(size=(3, 6)), "early": rng.normal(size=(3, 6))}
    x["Ids"] = rng.integers(0, 4, size=(3, 3))
    structured = x if as_dict else list(x.values())
    samples = x if samples_as_dict else list(x.values())
    report = export_tflite(model, tmp_path / "m.tflite", samples, storage="dense", runs=1)
    dtypes = {"late": "float32", "early": "float32", "Ids": "int32"}
    outputs = run(report.path, **{name: x[name][:1].astype(dtypes[name]) for name in x})
    expected = model(structured, training=False)
    if not as_dict:
        expected = dict(zip(["output_0", "output_1"], expected, strict=True))
    assert sorted(outputs) == sorted(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(outputs[name], values[:1], atol=1e-6)


@on_tensorflow
def test_subclassed_model_takes_the_types_of_the_samples(tmp_path):
    class Lookup(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding, self.dense = layers.Embedding(4, 3), layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs["values"]) + self.embedding(inputs["ids"])

    model = Lookup()
    x = {"values": np.ones((2, 5), "float32"), "ids": np.array([1, 3], "int32")}
    expected = model(x)
    report = export_tflite(model, tmp_path / "model.tflite", x, storage="dense", runs=1)
    for i in range(2):
        output = run(report.path, **{name: array[i : i + 1] for name, array in x.items()})
        np.testing.assert_allclose(output["output_0"], expected[i : i + 1], atol=1e-6)


@on_tensorflow
def test_open_dimensions_come_from_the_samples(tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), layers.LSTM(4)])
    with pytest.raises(ValueError, match=r"`sample_inputs` must be given.*Received: "):
        export_tflite(model, tmp_path / "model.tflite")
    x = np.ones((2, 7, 3), "float32")
    report = export_tflite(model, tmp_path / "model.tflite", x, storage="dense", runs=1)
    output = run(report.path, input_0=x[:1])["output_0"]
    np.testing.assert_allclose(output, model(x[:1]), atol=1e-6)


@on_tensorflow
def test_file_that_drops_inputs_is_refused(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"before")
    sparse = tfl.sparsify(dense_model(misfiring_kernel()))
    with pytest.raises(ExportError, match=r'differs from Keras by 0?\.?\d.*storage="dense"'):
        export_tflite(sparse, path, runs=1)
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["model.tflite"]
    report = export_tflite(sparse, path, storage="dense", runs=1)
    assert report.max_difference < 1e-5 and path.stat().st_size == report.num_bytes


@on_tensorflow
def test_file_that_drops_inputs_is_refused_even_if_the_samples_do_not_show_it(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 302))
    x[:, 300:] = 0.0
    with pytest.raises(ExportError, match=r"lacks \d+ weights that are not zero"):
        export_tflite(dense_model(misfiring_kernel()), tmp_path / "model.tflite", x)
    assert os.listdir(tmp_path) == []


@on_tensorflow
def test_tolerance_is_relative_to_the_largest_output(tmp_path, monkeypatch):
    model, x = one_weight_model(1234.5), np.eye(4)[:2]
    replace_in_files(monkeypatch, 1234.5, 1246.845)
    path, dense = tmp_path / "model.tflite", {"storage": "dense", "runs": 1}
    with pytest.raises(ExportError, match=r"differs from Keras by 12\.3, allowed is 11\.1"):
        export_tflite(model, path, x, tolerance=0.009, **dense)
    report = export_tflite(model, path, x, tolerance=0.011, **dense)
    assert report.max_difference == pytest.approx(12.345, rel=1e-4)


@on_tensorflow
def test_file_that_gives_nan_is_refused(tmp_path, monkeypatch):
    replace_in_files(monkeypatch, 1234.5, np.nan)
    message = r"NaN, infinity or another shape\. Nothing was written\. Nor is the dense"
    with pytest.raises(ExportError, match=message):
        export_tflite(one_weight_model(1234.5), tmp_path / "model.tflite")
    assert os.listdir(tmp_path) == []


@on_tensorflow
def test_file_that_does_not_load_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite, "_convert", lambda *args: {"sparse": b"?" * 64, "dense": b""})
    with pytest.raises(ExportError, match="The file does not run"):
        export_tflite(one_weight_model(), tmp_path / "model.tflite")
    assert os.listdir(tmp_path) == []


@on_tensorflow
def test_model_that_gives_nan_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"finite outputs.*Received: model=.*\['output_0'\]"):
        export_tflite(one_weight_model(np.nan), tmp_path / "model.tflite")


@on_tensorflow
def test_operation_unknown_to_tflite_is_named(tmp_path):
    inputs = keras.Input((2, 2))
    model = keras.Model(inputs, keras.ops.svd(layers.Dense(2)(inputs), compute_uv=False))
    with pytest.raises(ExportError, match=r"Received: model='.*', refused .* for Svd$"):
        export_tflite(model, tmp_path / "model.tflite")
    assert os.listdir(tmp_path) == []


@on_tensorflow
def test_terminal_stays_quiet(tmp_path, capfd):
    model = tfl.sparsify(mlp(), sparsity=0.9)
    capfd.readouterr()
    export_tflite(model, tmp_path / "model.tflite", runs=1)
    assert capfd.readouterr() == ("", "")


def test_only_notes_are_kept_off_the_terminal(capfd):
    with tflite._quiet_converter():
        os.write(2, b"W0000 00:00:1.5 1 a.cc:1] a note\nE0000 00:00:1.5 1 a.cc:1] trouble\n")
        print("more trouble", file=sys.stderr)
    os.write(2, b"W0000 afterwards\n")
    lines = capfd.readouterr().err.splitlines()
    assert sorted(lines) == sorted(
        ["E0000 00:00:1.5 1 a.cc:1] trouble", "more trouble", "W0000 afterwards"]
    )


@on_tensorflow
@pytest.mark.parametrize(
    "argument, value",
    [
        ("model", None),
        ("model", keras.Sequential([layers.Dense(2)])),
        ("path", 7),
        ("storage", "csr"),
        ("tolerance", 0.0),
        ("tolerance", float("nan")),
        ("tolerance", "1e-4"),
        ("runs", 0),
        ("runs", 2.5),
    ],
)
def test_wrong_argument_is_named(argument, value, tmp_path, monkeypatch):
    monkeypatch.setattr(tflite, "_convert", refuse_to_convert)
    arguments = {"model": one_weight_model(), "path": tmp_path / "model.tflite"}
    with pytest.raises(ValueError, match=rf"(?s)Argument `{argument}` must .*Received: .+"):
        export_tflite(**{**arguments, argument: value})
    assert os.listdir(tmp_path) == []


@on_tensorflow
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
def test_samples_of_a_wrong_shape(samples, tmp_path, monkeypatch):
    monkeypatch.setattr(tflite, "_convert", refuse_to_convert)
    with pytest.raises(ValueError, match=r"`sample_inputs`.*\(None, 4\) float32.*Received: "):
        export_tflite(one_weight_model(), tmp_path / "model.tflite", samples)
    assert os.listdir(tmp_path) == []


@on_tensorflow
def test_samples_that_do_not_fit_each_other_or_the_inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite, "_convert", refuse_to_convert)
    model, path = functional_model(as_dict=False), tmp_path / "model.tflite"
    floats, ids = np.ones((2, 6)), np.ones((2, 3), "int32")
    with pytest.raises(ValueError, match=r"same number.*Received: .*\(3, 6\) float64"):
        export_tflite(model, path, [floats, np.ones((3, 6)), ids])
    with pytest.raises(ValueError, match=r"'Ids': '\(None, 3\) int32'.*Received: .*float64'\]"):
        export_tflite(model, path, [floats, floats, 1.0 * ids])
    with pytest.raises(ValueError, match=r"'late': .*Received: .*'a': "):
        export_tflite(model, path, {"a": floats, "b": floats, "c": ids})


@on_tensorflow
def test_path_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite, "_convert", refuse_to_convert)
    sparse = tfl.sparsify(mlp())
    missing = tmp_path / "missing" / "model.tflite"
    with pytest.raises(FileNotFoundError, match=r"`path`.*Received: '.*missing.model\.tflite'"):
        export_tflite(sparse, missing)
    with pytest.raises(IsADirectoryError, match=r"`path`.*Received: '.*'"):
        export_tflite(sparse, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="`path`"):
        export_tflite(sparse, tmp_path / "file" / "model.tflite")
    assert os.listdir(tmp_path) == ["file"]


@on_tensorflow
def test_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write into any folder")
    with pytest.raises(PermissionError, match=r"`path`.*Received: '.*model\.tflite'"):
        export_tflite(one_weight_model(), tmp_path / "model.tflite")


def test_other_backend_is_told_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    message = r"model\.save.*KERAS_BACKEND=tensorflow tf-lottery export FILE.*Received: .*'jax'"
    with pytest.raises(RuntimeError, match=message):
        export_tflite(mlp(), tmp_path / "model.tflite")
    assert os.listdir(tmp_path) == []


def test_import_needs_neither_tensorflow_nor_the_interpreter():
    code = (
        "import sys, tf_lottery.export; print(*{'tensorflow', 'ai_edge_litert'} & {*sys.modules})"
    )
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
