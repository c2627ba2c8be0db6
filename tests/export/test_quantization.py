import keras
import numpy as np
import pytest
from keras import layers

from tf_lottery.export import ExportError, flatbuffer, quantization
from tf_lottery.export.inputs import Inputs
from tf_lottery.export.quantization import check_combination, quantized


def dense_model(kernel):
    model = keras.Sequential([keras.Input(kernel.shape[:1]), layers.Dense(kernel.shape[1])])
    model.set_weights([kernel, np.zeros(kernel.shape[1])])
    return model


def convolution(kernel):
    height, width, channels, filters = kernel.shape
    layer = layers.Conv2D(filters, (height, width), use_bias=False)
    model = keras.Sequential([keras.Input((6, 6, channels)), layer])
    model.set_weights([kernel])
    return model


def steps_of(*rows):
    return Inputs(["input_0"], None, 1, [np.array(rows, "float32")])


@pytest.mark.parametrize("mode", ["float16", "weight_int8", "dynamic_int8", None])
def test_representative_data_is_for_int8_only(mode, pruned):
    model = dense_model(pruned((32, 4), 0.5))
    check_combination(model, mode, "auto", None)
    message = rf"`representative_data` must be None .*`sample_inputs`.*quantize={mode!r}"
    with pytest.raises(ValueError, match=message):
        check_combination(model, mode, "auto", np.ones((2, 32)))


def test_int8_needs_representative_data(pruned):
    model = dense_model(pruned((32, 4), 0.5))
    check_combination(model, "int8", "auto", np.ones((2, 32)))
    message = r"`representative_data` must be given for quantize='int8'.*'dynamic_int8' needs none"
    with pytest.raises(ValueError, match=message):
        check_combination(model, "int8", "auto", None)
    with pytest.raises(ValueError, match=r"all activations on it\. Received"):
        check_combination(model, "int8", "auto", None, "int8")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("layer", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_loops_are_refused_in_int8(layer, nested):
    def build(unroll):
        inputs = keras.Input((5, 4))
        inner = layer(3, unroll=unroll, name="loop")
        x = layers.Bidirectional(inner)(inputs) if nested else inner(inputs)
        return keras.Model(inputs, x)

    data = np.ones((2, 5, 4))
    check_combination(build(True), "int8", "auto", data)
    check_combination(build(False), "dynamic_int8", "auto", None)
    message = r"must not be 'int8'.*`unroll=True`, or pass quantize='dynamic_int8'.*loop"
    with pytest.raises(ValueError, match=message):
        check_combination(build(False), "int8", "auto", data)
    with pytest.raises(ValueError, match=r"`unroll=True`\. Received"):
        check_combination(build(False), "int8", "auto", data, "int8")


def test_sparse_storage_needs_zeros(pruned):
    check_combination(dense_model(pruned((32, 4), 0.5)), None, "sparse", None)
    full = dense_model(pruned((32, 4), 0.0))
    check_combination(full, None, "auto", None)
    with pytest.raises(ValueError, match="`storage` must be 'dense' or 'auto' .*without zeros"):
        check_combination(full, None, "sparse", None)


@pytest.mark.parametrize("mode", ["dynamic_int8", "int8"])
@pytest.mark.parametrize(
    "width, sparsity, block, works",
    [(64, 0.8, 16, True), (64, 0.3, 1, False), (72, 0.8, 8, False)],
)
def test_integer_products_need_empty_blocks(mode, width, sparsity, block, works, pruned):
    model = dense_model(pruned((width, 8), sparsity, block))
    data = np.ones((2, width)) if mode == "int8" else None
    check_combination(model, mode, "auto", data)
    if works:
        check_combination(model, mode, "sparse", data)
        return
    message = (
        r"`storage` must be 'dense' or 'auto' here: .*blocks of 16 inputs.*"
        rf"`pattern=\"16x1\"`, or pass quantize='weight_int8'.*quantize='{mode}'"
    )
    with pytest.raises(ValueError, match=message):
        check_combination(model, mode, "sparse", data)


def test_convolutions_are_stored_sparse_in_int8_only(pruned):
    model = convolution(pruned((3, 3, 4, 8), 0.8))
    check_combination(model, "int8", "sparse", np.ones((2, 6, 6, 4)))
    with pytest.raises(ValueError, match="`storage` must be 'dense' or 'auto' here"):
        check_combination(model, "dynamic_int8", "sparse", None)


def test_float32_is_the_file_itself():
    assert quantized(b"anything", None) == b"anything"


@pytest.mark.parametrize("mode", ["weight_int8", "dynamic_int8"])
def test_weights_have_a_scale_per_output(mode, pruned, dense_file):
    kernel = pruned((64, 32), 0.5)
    model = flatbuffer.read_model(quantized(dense_file(kernel), mode))
    (weights,) = (t for t in model.subgraphs[0].tensors if flatbuffer.dtype_name(t) == "int8")
    scales = np.abs(kernel).max(axis=0) / 127
    np.testing.assert_allclose(weights.quantization.scale, scales, rtol=1e-6)
    stored = flatbuffer.stored_values(model, weights).reshape(32, 64)
    np.testing.assert_array_equal(stored, np.rint(kernel / scales).T)


def test_float16_rounds_the_weights(pruned, dense_file):
    kernel = pruned((64, 32), 0.5)
    model = flatbuffer.read_model(quantized(dense_file(kernel), "float16"))
    (weights,) = (t for t in model.subgraphs[0].tensors if list(t.shape) == [32, 64] and t.buffer)
    stored = flatbuffer.stored_values(model, weights)
    np.testing.assert_array_equal(stored, kernel.T.astype("float16").reshape(-1))


def test_ranges_of_int8_are_those_of_all_steps(dense_file):
    # Moving averages over the steps would shrink a range that only one step has.
    inputs = steps_of([1.0, -2.0], [0.5, 12.0], [-7.0, 0.0], *30 * [[0.1, 0.1]])
    kernel = np.array([[2.0], [1.0]], "float32")
    model = flatbuffer.read_model(quantized(dense_file(kernel), "int8", inputs))
    graph = model.subgraphs[0]
    (layer,) = (
        o
        for o in graph.operators
        if flatbuffer.operator_name(model, o) != "QUANTIZE"
        and flatbuffer.operator_name(model, o) != "DEQUANTIZE"
    )
    x, y = graph.tensors[layer.inputs[0]], graph.tensors[layer.outputs[0]]
    assert flatbuffer.dtype_name(x) == flatbuffer.dtype_name(y) == "int8"
    assert x.quantization.scale[0] == pytest.approx((12 + 7) / 255, rel=1e-5)
    # The file has one bias, -0.1, so the outputs range from -14.1 to 12.9.
    assert y.quantization.scale[0] == pytest.approx((12.9 + 14.1) / 255, rel=1e-4)
    assert [flatbuffer.dtype_name(graph.tensors[i]) for i in graph.inputs] == ["float32"]
    assert [flatbuffer.dtype_name(graph.tensors[i]) for i in graph.outputs] == ["float32"]


@pytest.mark.parametrize("mode", ["float16", "weight_int8", "dynamic_int8", "int8"])
@pytest.mark.parametrize("kind", ["dense", "convolution"])
def test_outputs_are_within_the_tolerance(
    mode, kind, pruned, dense_file, convolution_file, run_file
):
    rng = np.random.default_rng(0)
    if kind == "dense":
        content, shape = dense_file(pruned((64, 32), 0.8), pruned((32, 8), 0.5)), (64,)
    else:
        content, shape = convolution_file(pruned((3, 3, 4, 8), 0.8)), (6, 6, 4)
    x = rng.normal(size=(3, *shape)).astype("float32")
    inputs = Inputs(["input_0"], None, 1, [x]) if mode == "int8" else None
    file = quantized(content, mode, inputs)
    assert len(file) < 0.8 * len(content) or kind == "convolution"
    for i in range(3):
        (expected,), (output,) = run_file(content, x[i : i + 1]), run_file(file, x[i : i + 1])
        difference = np.abs(output - expected).max()
        assert 0 < difference < quantization.TOLERANCES[mode] * np.abs(expected).max()


def test_quantizer_runs_in_a_process_of_its_own(dense_file, real_processes, capfd):
    content = dense_file(np.ones((64, 32), "float32"))
    inputs = Inputs(["input_0"], None, 1, [np.ones((2, 64), "float32")])
    file = quantized(content, "int8", inputs)
    assert len(file) < len(content) - 2 * 64 * 32
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "body, cause",
    [
        ("os.kill(os.getpid(), 11)", "The process was ended by SIGSEGV"),
        ("raise RuntimeError('no recipe')", "RuntimeError: no recipe"),
    ],
)
def test_quantizer_that_fails(body, cause, tmp_path, monkeypatch, real_processes):
    (tmp_path / "quantize.py").write_text(f"import os\ndef quantize(**_): {body}")
    monkeypatch.setattr(quantization, "TASKS", tmp_path)
    message = rf"cannot be quantized: {cause}.*Nothing was written.*Received: quantize='float16'"
    with pytest.raises(ExportError, match=message):
        quantized(b"", "float16")
    with pytest.raises(ExportError, match="Pass runtime='litert', io_type='float32' and quantize="):
        quantized(b"", "int8", io_type="uint8")
