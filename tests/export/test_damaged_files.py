"""Damaged files: always a `ValueError` that says what is broken."""

import re

import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.export import sparse_flatbuffer
from tf_lottery.export.xnnpack import sparse_inference_report

NUM_DAMAGES = 100


@pytest.fixture
def files(dense_file, convolution_file, pruned, quantize_file, tmp_path):
    """Small files: dense and sparse, with weights outside of the flatbuffer, with a padding."""
    dense = dense_file(pruned((32, 16), 0.8), pruned((16, 8), 0.0))
    return [
        sparse_flatbuffer.pack(dense_file(pruned((64, 32), 0.9), pruned((32, 32), 0.9, 4))),
        quantize_file(dense, "float16"),
        convolution_file(pruned((3, 3, 2, 4), 0.5), pruned((1, 1, 4, 4), 0.5)),
    ]


def damages(content, rng):
    """Yields copies with changed bytes, mostly among the tables, and truncated copies."""
    for _ in range(NUM_DAMAGES):
        damaged = np.frombuffer(content, "uint8").copy()
        for place in rng.integers(8, len(content), size=rng.integers(1, 4)):
            damaged[place] = rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))])
        yield damaged.tobytes()
    for size in rng.integers(8, len(content), size=NUM_DAMAGES // 5):
        yield content[:size]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_damaged_files_are_read_or_refused(number, files, tmp_path):
    path, refused = tmp_path / "damaged.tflite", 0
    for damaged in damages(files[number], np.random.default_rng(number)):
        path.write_bytes(damaged)
        for use in (tfl.inspect_tflite, sparse_inference_report):
            try:
                str(use(path).to_dict())
            except ValueError as error:
                refused += 1
                assert re.match(r"Argument `\w+` must be a (complete )?TFLite file", str(error))
                assert "damaged.tflite" in str(error)
        try:
            sparse_flatbuffer.pack(damaged)
        except ValueError as error:
            assert str(error).startswith("Argument `content` must be a ")
    assert refused > NUM_DAMAGES // 5


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda model, g: setattr(g.tensors[1], "buffer", 99),
            "tensor 1 refers to buffer",
        ),
        (lambda model, g: setattr(g.tensors[1], "type", 99), "unknown data type, 99"),
        (lambda model, g: setattr(g.tensors[0], "shape", [1, -5]), r"has the shape \[1, -5\]"),
        (lambda model, g: setattr(g.operators[0], "inputs", [0, 77]), "operator 0 refers to tens"),
        (lambda model, g: setattr(g.operators[0], "inputs", [0]), "FULLY_CONNECTED.* lacks inputs"),
        (lambda model, g: setattr(g.operators[0], "outputs", []), "lacks an output"),
        (lambda model, g: setattr(g.operators[0], "opcodeIndex", 9), "is of kind 9 of 2"),
        (lambda model, g: setattr(g, "outputs", [55]), "its inputs or outputs"),
        (lambda model, g: setattr(model, "subgraphs", []), "no graph or no buffers"),
    ],
)
def test_message_says_what_is_broken(change, message, dense_file):
    from ai_edge_litert.tools import flatbuffer_utils

    content = dense_file(np.ones((4, 3)), np.ones((3, 2)))
    model = flatbuffer_utils.read_model_from_bytearray(content)
    change(model, model.subgraphs[0])
    damaged = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    with pytest.raises(ValueError, match=f"`file` must be a complete TFLite file.*{message}"):
        tfl.inspect_tflite(damaged)
