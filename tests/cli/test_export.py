import json

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export needs Keras on TensorFlow"
)


@pytest.fixture
def wide(tmp_path):
    """Path of a dense model, large enough for sparse storage to make the file smaller."""
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64, "relu"), layers.Dense(16)])
    model.save(tmp_path / "wide.keras")
    return tmp_path / "wide.keras"


def test_export(command, files, tmp_path):
    code, out, err = command("export", files["sparse"], "-o", tmp_path / "new.tflite", "--runs", 3)
    assert (code, err) == (0, "")
    # The network is too small for sparse storage.
    assert "dense float32 (written)" in out
    assert (tmp_path / "new.tflite").stat().st_size > 0


def test_export_beside_the_model_as_json(command, files):
    code, out, _ = command("export", files["plain"], "--storage", "dense", "--json", "--runs", 3)
    report = json.loads(out)
    path = files["plain"].with_suffix(".tflite")
    assert (code, report["path"], report["storage"]) == (0, str(path), "dense")
    assert report["num_bytes"] == path.stat().st_size


def test_export_that_fails_leaves_what_was_there(refused, tmp_path, make_model, contents):
    model = make_model()
    model.weights[0].assign(np.full(model.weights[0].shape, np.nan))
    source, target = tmp_path / "model.keras", tmp_path / "old.tflite"
    model.save(source)
    target.write_text("old")
    before = contents(tmp_path)
    assert "NaN" in refused("export", source, "-o", target)
    assert "folder" in refused("export", source, "-o", tmp_path / "missing" / "x.tflite")
    assert "model itself" in refused("export", source, "-o", source)
    assert contents(tmp_path) == before


def test_export_of_a_ticket(refused, files):
    assert "a ticket holds masks" in refused("export", files["ticket"])


def exported(command, *arguments):
    # The storage depends on the latencies: the median of many runs bears other load.
    code, out, err = command("export", *arguments, "--json", "--runs", 25)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_export_in_another_precision_and_pattern(command, wide):
    report = exported(
        command, wide, "--quantize", "weight_int8", "--sparsity", 0.75, "--pattern", "16x1"
    )
    assert (report["quantize"], report["storage"]) == ("weight_int8", "sparse")
    kernels = [tensor for tensor in report["tensors"] if tensor["dtype"] == "int8"]
    # One or two small weights may be rounded to zero.
    assert [tensor["sparsity"] for tensor in kernels] == pytest.approx([0.75, 0.75], abs=2e-3)
    assert kernels[0]["storage"] == "blocks of 16, unpacked at load"


def test_sparsity_prunes_a_sparse_model_anew(command, tmp_path):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64)])
    tfl.sparsify(model, sparsity=0.5).save(tmp_path / "half.keras")
    (kernel,) = exported(command, tmp_path / "half.keras", "--sparsity", 0.75)["tensors"][-1:]
    assert kernel["sparsity"] == 0.75


def test_export_compacted(command, tmp_path):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6, "relu"), layers.Dense(3)])
    kernel = np.ones((8, 6))
    kernel[:, 2:4] = 0.0
    model.layers[0].kernel.assign(kernel)
    model.save(tmp_path / "model.keras")
    report = exported(command, tmp_path / "model.keras", "--compact")
    assert report["compaction"]["parameters_before"] == 8 * 6 + 6 + 6 * 3 + 3
    assert report["compaction"]["parameters_after"] == 8 * 4 + 4 + 4 * 3 + 3
    code, out, _ = command("export", tmp_path / "model.keras", "--compact", "--runs", 3)
    assert code == 0 and "75" in out and "written" in out


def test_data_come_from_numpy_files(command, refused, wide, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "typical.npy", rng.normal(size=(16, 64)))
    np.savez(tmp_path / "samples.npz", x=rng.normal(size=(2, 64)))
    report = exported(
        command,
        wide,
        *("--quantize", "int8"),
        *("--representative-data", tmp_path / "typical.npy"),
        *("--verify-data", tmp_path / "typical.npy"),
    )
    assert report["quantize"] == "int8" and 0 < report["relative_difference"] < 0.1
    exported(command, wide, "--verify-data", tmp_path / "samples.npz")
    np.save(tmp_path / "narrow.npy", np.zeros((2, 63)))
    assert "--verify-data must" in refused("export", wide, "--verify-data", tmp_path / "narrow.npy")
    assert "missing.npy" in refused("export", wide, "--verify-data", tmp_path / "missing.npy")
    (tmp_path / "text.npy").write_text("hello")
    line = refused("export", wide, "--verify-data", tmp_path / "text.npy")
    assert "DATA must be a .npy or .npz file" in line


def test_int8_asks_for_data(refused, wide):
    assert "--representative-data must be given" in refused("export", wide, "--quantize", "int8")


@pytest.mark.parametrize(
    ("advice", "expected"),
    [
        (
            "a larger `tolerance`, or quantize='int16x8'",
            "a larger --tolerance, or --quantize int16x8",
        ),
        ("a larger `tolerance`, or quantize=None", "a larger --tolerance, or no --quantize"),
    ],
)
def test_advice_after_a_wrong_file_names_options(refused, wide, monkeypatch, advice, expected):
    def fail(*_, **__):
        raise tfl.export.ExportError(f"It differs. Pass {advice}.")

    monkeypatch.setattr(tfl.export, "export_tflite", fail)
    assert f"Pass {expected}." in refused("export", wide)


def test_inspect(command, wide, tmp_path):
    exported(command, wide, "-o", tmp_path / "new.tflite", "--sparsity", 0.75)
    code, out, err = command("inspect", tmp_path / "new.tflite")
    assert (code, err) == (0, "") and "CSR" in out and "75.00%" in out
    code, out, _ = command("inspect", tmp_path / "new.tflite", "--arm", "--json")
    report = json.loads(out)
    assert report["num_bytes"] == (tmp_path / "new.tflite").stat().st_size
    assert report["arm"]["verdict"] == "dense"
    code, out, _ = command("inspect", tmp_path / "new.tflite", "--arm")
    assert code == 0 and out.startswith("dense: XNNPACK") and "Operator " not in out
    code, out, _ = command("inspect", tmp_path / "new.tflite", "--arm", "-v")
    assert code == 0 and "FULLY_CONNECTED 1" in out


def test_inspect_of_another_file(refused, wide, tmp_path):
    assert "must be a TFLite file" in refused("inspect", wide)
    assert "no.tflite" in refused("inspect", tmp_path / "no.tflite")
