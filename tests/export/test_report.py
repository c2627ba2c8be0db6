import dataclasses
import json

from tf_lottery.export import ExportReport, FileReport, StoredFile, TensorRow

ROW = TensorRow("w", "CONV_2D", (10, 40), "float32", "CSR, unpacked at load", 50, 50, 261)
REPORT = ExportReport(
    path="model.tflite",
    quantize=None,
    storage="sparse",
    reason="2,000 bytes, dense 8,000",
    floor_bytes=1800,
    max_difference=2e-7,
    relative_difference=4e-7,
    latency_ms=0.125,
    dense=StoredFile(num_bytes=8000, gzip_bytes=5000, latency_ms=0.25),
    file=FileReport("model.tflite", num_bytes=2000, gzip_bytes=1500, rows=[ROW]),
)


def test_dict():
    data = json.loads(json.dumps(REPORT.to_dict()))
    assert data.pop("tensors") == [
        {
            "name": "w",
            "operator": "CONV_2D",
            "shape": [10, 40],
            "dtype": "float32",
            "storage": "CSR, unpacked at load",
            "num_stored": 50,
            "nonzeros": 50,
            "num_bytes": 261,
            "is_weight": True,
            "sparsity": 0.875,
        }
    ]
    assert data == {
        "path": "model.tflite",
        "quantize": None,
        "storage": "sparse",
        "reason": "2,000 bytes, dense 8,000",
        "floor_bytes": 1800,
        "max_difference": 2e-7,
        "relative_difference": 4e-7,
        "latency_ms": 0.125,
        "dense": {"num_bytes": 8000, "gzip_bytes": 5000, "latency_ms": 0.25},
        "num_bytes": 2000,
        "gzip_bytes": 1500,
        "stored_sparsity": 0.875,
        "ratio": 0.25,
        "runtime": "litert",
        "io_type": "float32",
        "arena_bytes": None,
        "micro_steps": None,
        "not_checked": REPORT.not_checked,
        "hint": "",
    }


def test_text():
    lines = str(REPORT).splitlines()
    assert [line.strip() for line in lines[:4]] == [
        "model.tflite",
        "87.50% of the weights left out",
        "at most 2.0e-07 from Keras, 4.0e-07 of the largest output",
        "sparse: 2,000 bytes, dense 8,000",
    ]
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in lines]
    assert ["sparse float32 (written)", "2,000", "1,500", "0.1250"] in rows
    assert ["dense float32", "8,000", "5,000", "0.2500"] in rows
    assert ["ratio", "0.250", "0.300", "0.500"] in rows
    assert ["entropy floor, single zeros", "1,800"] in [row[:2] for row in rows]


def test_slow_integers_get_a_hint():
    slow = dataclasses.replace(REPORT, quantize="dynamic_int8", latency_ms=0.35)
    assert slow.hint.startswith("dynamic_int8 takes 1.40 times as long as float32 here")
    assert "weight_int8" in str(slow)
    assert not dataclasses.replace(slow, quantize=None).hint
    assert not dataclasses.replace(slow, latency_ms=0.26).hint


def test_where_a_file_did_not_run():
    assert "GPU delegates" in REPORT.not_checked
    micro = dataclasses.replace(REPORT, runtime="micro")
    assert "not installed" in micro.not_checked
    micro = dataclasses.replace(micro, arena_bytes=17200)
    assert "CMSIS-NN" in micro.not_checked and "17,200" in str(micro)
