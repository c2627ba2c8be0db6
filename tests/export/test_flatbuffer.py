import numpy as np
import pytest

from tf_lottery.export import flatbuffer


def offsets_of_buffers(content):
    """Returns where the bytes of every buffer of a file start, read without `tf_lottery`."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(content, 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    full = [buffer for buffer in buffers if buffer.DataLength()]
    assert full
    tables = [(buffer._tab, buffer._tab.Offset(4)) for buffer in full]
    return [table.Vector(offset) for table, offset in tables]


@pytest.fixture
def file(dense_file, pruned):
    return dense_file(pruned((13, 7), 0.5), pruned((7, 3), 0.0))


def move_weights_outside(content, limit=64):
    """Returns the file with its large buffers after the flatbuffer, as in quantized files."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(content)
    outside = {}
    for index, buffer in enumerate(model.buffers):
        if buffer.data is not None and len(buffer.data) >= limit:
            outside[index], buffer.data = bytes(buffer.data), None
            buffer.offset, buffer.size = 2, len(outside[index])  # The writer omits zeros.
    assert outside
    for _ in range(2):
        # In the second pass the size of the flatbuffer is known.
        written = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
        end, tail = -(-len(written) // 16) * 16, b""
        for index, data in outside.items():
            model.buffers[index].offset = end + len(tail)
            tail += data + bytes(-len(data) % 16)
    return written.ljust(end, b"\0") + tail


def test_rewritten_file_computes_the_same(file, run_file):
    written = flatbuffer.write_model(flatbuffer.read_model(file))
    x = np.random.default_rng(0).normal(size=(1, 13)).astype("float32")
    assert written[4:8] == b"TFL3" and len(written) <= len(file) + 64
    np.testing.assert_array_equal(run_file(written, x), run_file(file, x))
    assert flatbuffer.write_model(flatbuffer.read_model(written)) == written


@pytest.mark.parametrize("sizes", [(1, 2, 3), (4, 15, 16, 17), (1000, 31)])
def test_buffers_are_aligned(builder, sizes):
    for size in sizes:
        builder.constant(np.arange(1, size + 1).astype("int8"))
    x = builder.tensor((1, 4))
    written = flatbuffer.write_model(flatbuffer.read_model(builder.content([x], [x])))
    offsets = offsets_of_buffers(written)
    assert len(offsets) == len(sizes)
    assert [offset % 16 for offset in offsets] == [0] * len(sizes)
    for size, offset in zip(sizes, sorted(offsets, reverse=True), strict=True):
        expected = bytes(np.arange(1, size + 1).astype("int8"))
        assert written[offset : offset + size] == expected


def test_writing_leaves_the_model_as_it_is(file):
    model = flatbuffer.read_model(file)
    before = model.buffers
    assert flatbuffer.write_model(model) == flatbuffer.write_model(model)
    assert model.buffers is before


def test_weights_outside_the_flatbuffer_are_read(file, run_file):
    outside = move_weights_outside(file)
    x = np.random.default_rng(0).normal(size=(1, 13)).astype("float32")
    written = flatbuffer.write_model(flatbuffer.read_model(outside))
    np.testing.assert_array_equal(run_file(written, x), run_file(file, x))
    np.testing.assert_array_equal(run_file(outside, x), run_file(file, x))


def test_files_of_the_quantizer_are_read(file, quantize_file, run_file):
    quantized = quantize_file(file, "float16")
    written = flatbuffer.write_model(flatbuffer.read_model(quantized))
    x = np.random.default_rng(0).normal(size=(1, 13)).astype("float32")
    np.testing.assert_array_equal(run_file(written, x), run_file(quantized, x))


@pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\3\4" + 60 * b"x"])
def test_other_bytes_are_no_file(content):
    message = rf"`content` must be a TFLite file.*Received: {len(content)} bytes"
    with pytest.raises(ValueError, match=message):
        flatbuffer.read_model(content)


def test_truncated_file_is_refused_or_has_lost_nothing(file):
    model = flatbuffer.read_model(file)
    for size in range(8, len(file), 16):
        try:
            shorter = flatbuffer.read_model(file[:size])
        except ValueError as error:
            assert str(error).startswith("Argument `content` must be ")
        else:
            for old, new in zip(model.buffers, shorter.buffers, strict=True):
                np.testing.assert_array_equal(new.data, old.data)


def test_truncated_file_with_weights_outside_is_refused(file):
    outside = move_weights_outside(file)
    with pytest.raises(ValueError, match="`content` must be a complete TFLite file"):
        flatbuffer.read_model(outside[:-100])


def test_options_behind_the_flatbuffer_are_no_associated_files(builder):
    x, y = builder.tensor((1, 4)), builder.tensor((1, 4))
    builder.operator("CUSTOM", [x], [y])
    builder.model.operatorCodes[0].customCode = b"Delegate"
    operator, options = builder.graph.operators[0], b"options of a delegate"
    operator.largeCustomOptionsOffset, operator.largeCustomOptionsSize = 2, len(options)
    operator.largeCustomOptionsOffset = end = len(builder.content([x], [y]))
    content = builder.content([x], [y])
    assert len(content) == end
    model = flatbuffer.read_model(content + options)
    assert model.trailing == b""
    model = flatbuffer.read_model(flatbuffer.write_model(model))
    assert bytes(model.subgraphs[0].operators[0].customOptions) == options


def test_stored_values(builder):
    half = builder.constant(np.array([0.5, -2.0], "float16"))
    x = builder.tensor((1, 2))
    odd = builder.constant(np.arange(3).astype("int8"))
    builder.graph.tensors[odd].type = builder.schema.TensorType.FLOAT32
    text = builder.constant(np.zeros(8, "int8"))
    builder.graph.tensors[text].type = builder.schema.TensorType.STRING
    model = flatbuffer.read_model(builder.content([x], [x]))
    tensors = model.subgraphs[0].tensors
    np.testing.assert_array_equal(flatbuffer.stored_values(model, tensors[half]), [0.5, -2.0])
    assert flatbuffer.dtype_name(tensors[half]) == "float16"
    assert [flatbuffer.stored_values(model, tensors[i]) for i in (x, odd, text)] == [None] * 3
