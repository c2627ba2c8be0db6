import gzip
import io
import json
import math
import re

import keras
import numpy as np
import pytest
from rich.console import Console

import tf_lottery as tfl
from tf_lottery.export import FileReport, TensorRow, flatbuffer, sparsify_flatbuffer


def floor(kernel):
    """Returns the bytes of the non-zero values plus the entropy of their positions."""
    p = np.count_nonzero(kernel) / kernel.size
    bits = -p * math.log(p) / math.log(2) - (1 - p) * math.log(1 - p) / math.log(2)
    return math.ceil(p * kernel.size * kernel.itemsize + bits * kernel.size / 8)


@pytest.fixture
def kernel(pruned):
    return pruned((64, 32), 0.9)


def test_dense_file(kernel, dense_file, tmp_path):
    content = dense_file(kernel)
    (tmp_path / "m.tflite").write_bytes(content)
    report = tfl.inspect_tflite(tmp_path / "m.tflite")
    assert report.name == str(tmp_path / "m.tflite")
    assert (report.num_bytes, report.gzip_bytes) == (len(content), len(gzip.compress(content, 9)))
    weights, bias = report.rows
    nonzeros = np.count_nonzero(kernel)
    assert nonzeros == 205
    assert weights == TensorRow(
        name="tensor_1",
        operator="FULLY_CONNECTED",
        shape=(32, 64),
        dtype="float32",
        storage="dense",
        num_stored=2048,
        nonzeros=205,
        num_bytes=8192,
    )
    assert (bias.shape, bias.sparsity, bias.num_bytes) == ((32,), 0.0, 128)
    assert weights.sparsity == 1 - 205 / 2048
    assert weights.floor_bytes == floor(kernel) and bias.floor_bytes == 128
    assert report.floor_bytes == len(content) - 8192 + floor(kernel)
    assert report.stored_sparsity == 0.0


def test_unpacked_weights(kernel, dense_file):
    report = tfl.inspect_tflite(sparsify_flatbuffer(dense_file(kernel)))
    assert report.name == "TFLite file"
    (row,) = (row for row in report.rows if row.storage != "dense")
    # The row describes the layer's weights, not the operator that unpacks them.
    assert (row.name, row.operator, row.shape) == ("tensor_1", "FULLY_CONNECTED", (32, 64))
    assert row.storage == "CSR, unpacked at load"
    assert (row.num_stored, row.nonzeros) == (205, 205)
    # 4 bytes per value, 1 per position, 33 row pointers.
    assert row.num_bytes == 5 * 205 + 33
    assert row.dense_bytes == 8192 and row.sparsity == 1 - 205 / 2048
    assert report.stored_sparsity == pytest.approx(1 - (205 + 32) / (2048 + 32))


def test_columns(pruned, dense_file):
    report = tfl.inspect_tflite(sparsify_flatbuffer(dense_file(pruned((1000, 100), 0.9))))
    storages = [row.storage for row in report.rows]
    assert sorted(storages) == ["CSC, unpacked at load", "dense"]


def test_blocks_count_their_zeros_as_stored(pruned, dense_file):
    kernel = pruned((256, 32), 0.9, block=4)
    kernel[np.flatnonzero(kernel[:, 0])[0], 0] = 0.0
    report = tfl.inspect_tflite(sparsify_flatbuffer(dense_file(kernel)))
    (row,) = (row for row in report.rows if row.storage != "dense")
    assert row.storage == "blocks of 4, multiplied as they are"
    assert row.num_stored == np.count_nonzero(kernel) + 1 == row.nonzeros + 1
    assert row.num_bytes == 4 * row.num_stored + row.num_stored // 4 + 33


@pytest.mark.parametrize(
    "mode, storage",
    [
        ("float16", "CSR, unpacked at load"),
        ("weight_int8", "CSR, unpacked at load"),
        ("dynamic_int8", "blocks of 16, multiplied as they are"),
    ],
)
def test_quantized_files(mode, storage, pruned, dense_file, quantize_file):
    kernel = pruned((64, 32), 0.9, block=16 if mode == "dynamic_int8" else 1)
    content = sparsify_flatbuffer(quantize_file(dense_file(kernel), mode), max_slowdown=math.inf)
    rows = {row.shape: row for row in tfl.inspect_tflite(content).rows}
    row = rows[32, 64]
    assert row.dtype == {"float16": "float16"}.get(mode, "int8")
    count = np.count_nonzero(kernel)
    assert row.storage == storage and count - 10 <= row.nonzeros <= count
    # Not the operator that turns the weights into float32.
    assert row.operator == "FULLY_CONNECTED"


def test_kernel_without_any_weight(dense_file):
    content = dense_file(np.zeros((64, 32), "float32"))
    report = tfl.inspect_tflite(sparsify_flatbuffer(content))
    (row,) = (row for row in report.rows if row.shape == (32, 64))
    assert (row.num_stored, row.nonzeros, row.sparsity) == (0, 0, 1.0)
    assert row.storage == "CSR, unpacked at load" and row.floor_bytes == 0
    assert report.stored_sparsity == 1 - 32 / (2048 + 32)


def test_shared_constants_are_listed_once(builder, kernel):
    x = builder.tensor((1, 64))
    weights = builder.constant(kernel.T)
    outputs = [builder.fully_connected(x, weights) for _ in range(2)]
    assert len(tfl.inspect_tflite(builder.content([x], outputs)).rows) == 1


def test_file_of_the_stock_converter():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("one backend suffices")
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(64, 32)).astype("float32")
    kernel[np.arange(64) % 8 > 0] = 0.0
    graph = tf.function(lambda x: x @ kernel, input_signature=[tf.TensorSpec((1, 64), tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    report = tfl.inspect_tflite(converter.convert())
    (row,) = (row for row in report.rows if row.shape == (32, 64))
    assert row.storage == "CSR, unpacked at load" and row.operator == "FULLY_CONNECTED"
    assert row.nonzeros == row.num_stored == 8 * 32
    assert row.num_bytes == 5 * 256 + 2 * 33


def test_dict_and_text(kernel, dense_file):
    report = tfl.inspect_tflite(sparsify_flatbuffer(dense_file(kernel)))
    data = json.loads(json.dumps(report.to_dict()))
    assert data["num_bytes"] == report.num_bytes and data["floor_bytes"] == report.floor_bytes
    assert {tuple(row["shape"]): row["nonzeros"] for row in data["tensors"]}[32, 64] == 205
    lines = str(report).splitlines()
    assert lines[0].startswith(f"TFLite file: {report.num_bytes:,} bytes, ")
    assert lines[1].startswith("2,080 weights, 88.61% of them zero, in 1,186 bytes (")
    assert lines[2].startswith("88.61% of the weights left out")
    start = next(i for i, line in enumerate(lines) if "tensor_1" in line)
    cells = [re.split(r"  +", line.strip()) for line in lines[start : start + 2]]
    assert cells[0] == ["tensor_1", "float32, CSR,", "89.99%", "1,058"]
    assert cells[1] == ["FULLY_CONNECTED, 32 x 64", "unpacked at load"]


@pytest.fixture
def large_file(builder):
    """A file of 20 layers with shape constants between them."""
    x = first = builder.tensor((1, 8))
    for number in range(20):
        name = f"network/block_{number}/dense/MatMul;network/block_{number}/dense/BiasAdd"
        weights = builder.constant(np.ones((8, 8), "float32"))
        builder.graph.tensors[weights].name = name.encode()
        shape, y = builder.constant(np.array([1, 8], "int32")), builder.tensor((1, 8))
        builder.operator("RESHAPE", [builder.fully_connected(x, weights), shape], [y])
        x = y
    return builder.content([first], [x])


@pytest.mark.parametrize("width", [60, 80, 110])
def test_text_of_a_large_file(large_file, width):
    report = tfl.inspect_tflite(large_file)
    console = Console(file=io.StringIO(), width=width)
    console.print(report)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width and len(lines) < 56
    text = " ".join(" ".join(lines).split())
    assert "8 smaller (-v: all)" in text and "2,048" in text
    assert "20 shapes, axes etc." in text and "160" in text
    assert "FULLY_CONNECTED, 8 x 8" in text and "RESHAPE" not in text
    console.print(report.to_table(verbose=True))
    assert "RESHAPE, 2" in console.file.getvalue()


def test_largest_weights_come_first(pruned, dense_file):
    report = tfl.inspect_tflite(dense_file(pruned((8, 4), 0.5), pruned((4, 100), 0.5)))
    assert [row.num_bytes for row in report.weights] == [1600, 400, 128, 16]
    assert report.num_weights == 536 and report.weight_bytes == 2144
    nonzeros = sum(row.nonzeros for row in report.weights)
    assert report.sparsity == 1 - nonzeros / 536 and report.stored_sparsity == 0


@pytest.mark.parametrize(
    ("dtype", "packed", "values"),
    [
        # The low half of a byte first, and a half of padding.
        ("int4", [0x78, 0x10, 0xF0, 0x03, 0x05], [-8, 7, 0, 1, 0, -1, 3, 0, 5]),
        ("uint4", [0x78, 0x10, 0xF0, 0x03, 0x05], [8, 7, 0, 1, 0, 15, 3, 0, 5]),
        # Four in a byte, the lowest bits first, and three quarters of padding.
        ("int2", [0b00_01_10_11, 0b01_00_00_11, 0b10], [-1, -2, 1, 0, -1, 0, 0, 1, -2]),
    ],
)
def test_weights_of_less_than_a_byte(dtype, packed, values, builder):
    x = builder.tensor((1, 3))
    weights = builder.constant(np.array(packed, "uint8"))
    tensor = builder.graph.tensors[weights]
    tensor.shape, tensor.type = [3, 3], getattr(builder.schema.TensorType, dtype.upper())
    unpacked = builder.tensor((3, 3))
    builder.operator("DEQUANTIZE", [weights], [unpacked])
    content = builder.content([x], [builder.fully_connected(x, unpacked)])
    (row,) = tfl.inspect_tflite(content).rows
    assert (row.dtype, row.shape, row.operator) == (dtype, (3, 3), "FULLY_CONNECTED")
    assert (row.num_stored, row.nonzeros) == (9, 6)
    assert row.num_bytes == row.dense_bytes == row.floor_bytes == len(packed)
    assert row.is_weight
    model = flatbuffer.read_model(content)
    stored = flatbuffer.stored_values(model, model.subgraphs[0].tensors[weights])
    np.testing.assert_array_equal(stored, values)


@pytest.mark.parametrize(
    ("points", "nonzeros"), [([128], 5), ([128, 0, 3], 2), ([128, 0], 4), (None, 4)]
)
def test_zeros_are_where_the_zero_point_is(points, nonzeros, builder):
    x = builder.tensor((1, 2))
    weights = builder.constant(np.array([[128, 1], [0, 0], [3, 5]], "uint8"))
    quantization = builder.schema.QuantizationParametersT()
    quantization.zeroPoint, quantization.quantizedDimension = points, 0
    builder.graph.tensors[weights].quantization = quantization
    content = builder.content([x], [builder.fully_connected(x, weights)])
    (row,) = tfl.inspect_tflite(content).rows
    assert (row.dtype, row.nonzeros) == ("uint8", nonzeros)


def test_large_files_are_not_compressed(kernel, dense_file, monkeypatch):
    monkeypatch.setattr("tf_lottery.export.inspection.MAX_GZIP", 1000)
    report = tfl.inspect_tflite(dense_file(kernel))
    assert report.gzip_bytes is None and "gzip" not in str(report)


def test_associated_files_are_counted(kernel, dense_file):
    report = tfl.inspect_tflite(dense_file(kernel) + b"labels")
    assert report.trailing_bytes == report.to_dict()["trailing_bytes"] == 6
    assert "6 bytes of associated files" in str(report)


def test_floor_of_a_dense_constant_is_its_bytes():
    row = TensorRow("w", "CONV_2D", (10, 10), "int8", "dense", 100, 99, 100)
    assert row.floor_bytes == 100
    half = TensorRow("w", "CONV_2D", (10, 10), "float32", "dense", 100, 50, 400)
    # 50 values of 4 bytes, and one bit for each of the 100 positions.
    assert half.floor_bytes == 200 + 13
    report = FileReport("f", 1000, 900, [row, half])
    assert report.floor_bytes == 1000 - 400 + 213


@pytest.mark.parametrize("file", [None, 7, ["m.tflite"]])
def test_wrong_argument(file):
    with pytest.raises(ValueError, match="Argument `file` must be the path or .*Received: file="):
        tfl.inspect_tflite(file)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        tfl.inspect_tflite(tmp_path / "none.tflite")
    (tmp_path / "text.tflite").write_text("hello, this is no model")
    with pytest.raises(ValueError, match="`file` must be a TFLite file.*Received: '.*text.tflite'"):
        tfl.inspect_tflite(tmp_path / "text.tflite")
