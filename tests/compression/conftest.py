"""Files of a compression, made by hand, and export tasks in this process."""

import pytest

from tf_lottery.compression import CompressedFile, Compression
from tf_lottery.export import quantization, verification


@pytest.fixture(autouse=True)
def tasks_in_this_process(convert_in_this_process, monkeypatch):
    for module in (quantization, verification):
        monkeypatch.setattr(module, "ChildProcess", convert_in_this_process)


@pytest.fixture
def make_file():
    """Returns a function that makes a `CompressedFile`."""

    def make(name, accuracy, num_bytes, latency_ms=1.0, flops=100.0, structure="unstructured"):
        options = (structure, 0.5, False, "float32", "sparse", accuracy, num_bytes, latency_ms)
        return CompressedFile(f"{name}.tflite", *options, flops)

    return make


@pytest.fixture
def make_result():
    """Returns a function that makes a `Compression` of a model of 90% accuracy."""

    def make(files, budget=None, max_drop=0.02, **fields):
        budget = budget or {"bytes": 200}
        return Compression("runs", budget, max_drop, 0.9, 0.005, files, {}, {}, **fields)

    return make
