"""Files for TFLite Micro and other runtimes, and other types and shapes of inputs and outputs."""

import json
import types

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery.export import ExportError, child_process, flatbuffer, micro
from tf_lottery.export.runtimes import resolve

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite's converter needs TensorFlow"
)
X = np.random.default_rng(0).normal(size=(8, 6, 6, 1)).astype("float32")


@pytest.fixture
def network():
    """A convolution and a dense layer whose weights have empty blocks of 16 inputs."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(32, name="dense"),
        ]
    )
    return tfl.sparsify(model, sparsity=0.75, pattern="16x1", exclude=["conv2d"])


def details(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    runner = interpreter.get_signature_runner()
    (inputs,), (outputs,) = (
        runner.get_input_details().values(),
        runner.get_output_details().values(),
    )
    return runner, inputs, outputs


def tensors(content):
    return [t for graph in flatbuffer.read_model(content).subgraphs for t in graph.tensors]


@on_tensorflow
def test_file_for_microcontrollers(network, tmp_path):
    path = tmp_path / "micro.tflite"
    report = tfl.export_tflite(network, path, runtime="micro", representative_data=X, runs=1)
    _, inputs, outputs = details(path)
    assert (inputs["dtype"], outputs["dtype"]) == (np.int8, np.int8)
    assert (report.quantize, report.io_type, report.storage) == ("int8", "int8", "dense")
    assert all(tensor.sparsity is None for tensor in tensors(path.read_bytes()))
    assert report.runtime == json.loads(json.dumps(report.to_dict()))["runtime"] == "micro"
    if micro.is_installed():
        # At least the images and the activations of the largest layer.
        assert 36 + 128 < report.arena_bytes < 100_000 and report.micro_steps <= 1
        assert "CMSIS-NN" in report.not_checked and "memory on the device" in str(report)
    else:
        assert report.arena_bytes is None and "is not installed" in report.not_checked


@on_tensorflow
def test_unsigned_bytes(network, tmp_path):
    runners = {}
    for io_type in ("int8", "uint8"):
        path = tmp_path / f"{io_type}.tflite"
        tfl.export_tflite(
            network,
            path,
            quantize="int8",
            io_type=io_type,
            representative_data=X,
            storage="dense",
            runs=1,
        )
        runners[io_type], inputs, outputs = details(path)
        assert inputs["dtype"] == outputs["dtype"] == np.dtype(io_type)
    signed = np.arange(-18, 18, dtype="int8").reshape(1, 6, 6, 1) * 7
    unsigned = (signed.astype("int16") + 128).astype("uint8")
    (expected,) = runners["int8"](input_0=signed).values()
    (output,) = runners["uint8"](input_0=unsigned).values()
    np.testing.assert_array_equal(output, expected.astype("int16") + 128)


@on_tensorflow
def test_sixteen_bit_activations_are_nearly_exact(network, tmp_path):
    path = tmp_path / "int16x8.tflite"
    report = tfl.export_tflite(network, path, quantize="int16x8", representative_data=X, runs=1)
    types = {flatbuffer.dtype_name(tensor) for tensor in tensors(path.read_bytes())}
    assert {"int16", "int8"} <= types and report.relative_difference < 0.03
    assert report.storage == "dense" and details(path)[1]["dtype"] == np.float32


@on_tensorflow
def test_portable_file_with_labels(network, tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    path = tmp_path / "portable.tflite"
    labels = [tmp_path / "labels.txt"]
    # The storage depends on the latencies: the median of many runs bears other load.
    report = tfl.export_tflite(
        network, path, X, runtime="portable", associated_files=labels, runs=25
    )
    assert report.storage == "sparse" and report.num_bytes == path.stat().st_size
    (tensor,) = (t for t in tensors(path.read_bytes()) if t.sparsity is not None)
    assert tensor.sparsity.blockMap is None or not len(tensor.sparsity.blockMap)
    assert path.read_bytes().count(b"cat\ndog\n") == 1 and report.file.trailing_bytes > 100
    assert "OpenVINO" in str(report)


@on_tensorflow
def test_number_of_examples(network, tmp_path):
    path = tmp_path / "batch.tflite"
    tfl.export_tflite(network, path, X, batch=4, runs=1)
    runner, inputs, _ = details(path)
    assert list(inputs["shape"]) == [4, 6, 6, 1]
    tfl.export_tflite(network, path, X, dynamic_shapes=True, runs=1)
    runner, inputs, _ = details(path)
    assert list(inputs["shape_signature"]) == [-1, 6, 6, 1]
    for size in (1, 5):
        (outputs,) = runner(input_0=X[:size]).values()
        expected = keras.ops.convert_to_numpy(network(X[:size]))
        np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("micro", "float16", "auto", None), "`quantize` must be 'int8' or None for runtime='mic"),
        (("micro", None, "sparse", None), "`storage` must .*fewer channels: see .*compact"),
        (("litert", None, "auto", "int8"), "`io_type` must be 'float32' unless quantize='int8'"),
        (("litert", "int8", "auto", "int4"), "`io_type`"),
        (("arm", None, "auto", None), "`runtime`"),
        (("micro", None, "auto", "float32"), "`io_type` must be 'int8' or 'uint8' for runtime="),
        (("micro", None, "auto", None, True), "`dynamic_shapes` must be False for runtime='micro'"),
    ],
)
def test_combinations_that_cannot_work(arguments, message):
    with pytest.raises(ValueError, match=f"Argument {message}.*Received: "):
        resolve(*arguments)


def test_defaults_of_a_runtime():
    assert resolve("micro", None, "auto", None) == ("int8", "dense", "int8")
    assert resolve("micro", "int8", "dense", "uint8") == ("int8", "dense", "uint8")
    assert resolve("litert", "int8", "auto", None) == ("int8", "auto", "float32")


def test_operators_that_micro_lacks(builder, pruned, dense_file):
    x, y = builder.tensor((1, 4)), builder.tensor((1, 4))
    builder.operator("GELU", [x], [y])
    assert "no operators GELU" in micro.find_problem(builder.content([x], [y]))
    with pytest.raises(ExportError, match="not fit for a microcontroller.*GELU.*Received: "):
        micro.check(builder.content([x], [y]), None, None)
    blocks = dense_file(pruned((256, 32), 0.9, block=4))
    assert micro.find_problem(blocks) == ""
    assert "as if they were dense" in micro.find_problem(tfl.export.sparsify_flatbuffer(blocks))


class Rounding:
    """Replaces `ChildProcess`: TFLite Micro's outputs are some steps above LiteRT's."""

    above = np.zeros(200, int)

    def __init__(self, path):
        self.is_micro = path.name == "micro.py"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def call(self, name, content, steps):
        outputs = [[np.zeros((1, 200), "int8")]]
        if self.is_micro:
            return [[outputs[0][0] + self.above.astype("int8")]], 1000
        return steps, outputs


@pytest.mark.parametrize(
    "above, steps", [([1] * 200, 1), ([4] * 10, 4), ([2] * 11, None), ([5], None), ([-5], None)]
)
def test_how_far_micro_may_be_from_litert(above, steps, monkeypatch, dense_file):
    values = np.pad(above, (0, 200 - len(above)))
    monkeypatch.setattr(micro, "is_installed", lambda: True)
    monkeypatch.setattr(micro, "ChildProcess", type("", (Rounding,), {"above": values}))
    inputs, content = types.SimpleNamespace(steps=lambda: []), dense_file(np.ones((4, 2)))
    process = Rounding(child_process.TASKS / "interpret.py")
    if steps is not None:
        assert micro.check(content, inputs, process) == micro.MicroRun(1000, steps)
        return
    with pytest.raises(ExportError, match="output 0 differs from LiteRT's by up to"):
        micro.check(content, inputs, process)


@pytest.mark.parametrize("batch, dynamic", [(0, False), (2.5, False), (2, True)])
@on_tensorflow
def test_wrong_number_of_examples(batch, dynamic, network, tmp_path):
    with pytest.raises(ValueError, match="Argument `batch` must .*Received: batch="):
        tfl.export_tflite(network, tmp_path / "m", X, batch=batch, dynamic_shapes=dynamic)


@pytest.mark.parametrize("files", [7, {"a": "text"}, ["x/labels.txt", "y/labels.txt"]])
@on_tensorflow
def test_wrong_associated_files(files, network, tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "labels.txt").write_text("cat")
    if isinstance(files, list):
        files = [tmp_path / name for name in files]
    with pytest.raises(ValueError, match="Argument `associated_files` must be a dict.*Received: "):
        tfl.export_tflite(network, tmp_path / "m", X, associated_files=files)
