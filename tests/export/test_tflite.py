import gzip
import os

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.export import ExportReport, StoredFile, export_tflite

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite's converter needs TensorFlow"
)


def mlp():
    initializer = keras.initializers.RandomNormal(seed=1)
    return keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(32, activation="relu", bias_initializer=initializer),
            layers.Dense(4, bias_initializer=initializer),
        ]
    )


def run(path, **inputs):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(path)).get_signature_runner()(**inputs)


def test_file_computes_what_the_sparse_model_computes(tmp_path, real_processes, capfd):
    sparse = tfl.sparsify(mlp(), sparsity=0.9)
    for kernel in sparse.kernels.values():
        kernel.assign(kernel + 0.01)
    path = tmp_path / "model.tflite"
    capfd.readouterr()
    export_tflite(sparse, path)
    assert capfd.readouterr() == ("", "")
    x = np.random.default_rng(5).normal(size=(1, 64)).astype("float32")
    expected = keras.ops.convert_to_numpy(sparse(x))
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(run(path, input_0=x)["output_0"], expected, atol=1e-6)
    assert os.listdir(tmp_path) == ["model.tflite"]


def test_report_describes_the_written_file(tmp_path):
    path = tmp_path / "model.tflite"
    sparse = tfl.sparsify(mlp(), sparsity=0.9)
    # The storage depends on the latencies: the median of many runs bears other load.
    report = export_tflite(sparse, str(path), runs=25)
    content = path.read_bytes()
    assert isinstance(report, ExportReport) and isinstance(report.dense, StoredFile)
    assert (report.path, report.storage, report.quantize) == (str(path), "sparse", None)
    assert report.num_bytes == len(content)
    assert report.gzip_bytes == len(gzip.compress(content, 9))
    kernels, biases = 64 * 32 + 32 * 4, 32 + 4
    stored = 64 * 32 - round(0.9 * 64 * 32) + 32 * 4 - round(0.9 * 32 * 4)
    assert report.stored_sparsity == pytest.approx(1 - (stored + biases) / (kernels + biases))
    assert 4 * (kernels + biases) < report.dense.num_bytes < 4 * (kernels + biases) + 4000
    assert report.reason == f"{len(content):,d} bytes, dense {report.dense.num_bytes:,d}"
    assert report.ratio == report.num_bytes / report.dense.num_bytes < 0.6
    assert 0 <= report.max_difference < 1e-6 and report.relative_difference < 1e-5
    assert report.latency_ms > 0 and report.dense.latency_ms > 0
    assert report.file.name == str(path)
    entropy = -0.9 * np.log2(0.9) - 0.1 * np.log2(0.1)
    least = report.dense.num_bytes - 4 * 0.9 * kernels + kernels * entropy / 8
    assert report.floor_bytes == pytest.approx(least, abs=20)


def test_dense_storage_stores_the_zeros(tmp_path):
    path = tmp_path / "model.tflite"
    report = export_tflite(tfl.sparsify(mlp(), sparsity=0.9), path, storage="dense")
    assert report.storage == "dense" and report.reason == "as asked for"
    assert report.stored_sparsity == 0 and report.ratio == 1
    assert report.num_bytes == path.stat().st_size == report.dense.num_bytes > 4 * 64 * 32
    assert report.gzip_bytes == report.dense.gzip_bytes


def test_model_stays_as_it_was(tmp_path):
    model = mlp()
    model.compile("adam", "mse", run_eagerly=True)
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


def test_open_dimensions_come_from_the_samples(tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), layers.LSTM(4)])
    with pytest.raises(ValueError, match=r"`sample_inputs` must be given.*Received: "):
        export_tflite(model, tmp_path / "model.tflite")
    x = np.ones((2, 7, 3), "float32")
    report = export_tflite(model, tmp_path / "model.tflite", x, storage="dense", runs=1)
    output = run(report.path, input_0=x[:1])["output_0"]
    np.testing.assert_allclose(output, model(x[:1]), atol=1e-6)


def test_input_is_called_the_same_after_loading(tmp_path):
    mlp().save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    report = export_tflite(loaded, tmp_path / "loaded.tflite", storage="dense", runs=1)
    # The same names as in the file of the model before it was saved.
    run(report.path, input_0=np.zeros((1, 64), "float32"))
