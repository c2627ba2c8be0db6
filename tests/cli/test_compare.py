"""`tf-lottery compare` and `tf-lottery demo`, with few steps and a stub of the export."""

import json

import keras
import pytest

from tf_lottery.experiments import exporting
from tf_lottery.experiments.sweeps import Sweep, SweepResult, presets
from tf_lottery_cli import demo

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export needs Keras on TensorFlow"
)


@pytest.fixture
def few_steps(size, monkeypatch):
    """Trains each network with two steps, and returns the folders and precisions of the files."""
    few = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 20}
    monkeypatch.setitem(presets._SETTINGS, "digits", few)
    monkeypatch.setitem(presets._QUICK, "digits", {})
    monkeypatch.setattr(presets, "_QUICK_RATE", 0.95)
    files = {}

    def export_run(folder, data, precision):
        measured = {"file_accuracy": 0.875, "file_milliseconds": 0.25}
        return files.setdefault((folder.name, precision), {"file_bytes": 1234, **measured})

    monkeypatch.setattr(exporting, "export_run", export_run)
    monkeypatch.setattr(exporting, "read_export", lambda folder, p: files.get((folder.name, p)))
    return files


@needs_tensorflow
def test_demo(command, few_steps, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    # Gates would double the time.
    monkeypatch.setattr(presets, "DEMONSTRATED", ("dense", "rigl", "imp", "retrained"))
    arguments = ("demo", "--jobs", 1, "--out", tmp_path / "run")
    code, out, err = command(*arguments)
    assert code == 0 and "4/4 imp_sparsity-0.95_seed-0_retrained: finished" in err
    assert max(map(len, out.split("\n- ")[0].splitlines())) <= 80
    for text in ("1,234", "87.50%", "weight_int8", "imp, retrained", "Next: tf-lottery compare"):
        assert text in out
    assert [precision for _, precision in few_steps] == ["float32"] * 3 + ["weight_int8"]
    again = command(*arguments)
    assert again[1].startswith(out[: out.index("In ")]) and "nothing was trained" in again[1]
    states = json.loads(command("list", tmp_path / "run", "--json")[1])
    assert [row["state"] for row in states] == ["finished"] * 4


@needs_tensorflow
def test_compare(command, few_steps, tmp_path):
    arguments = ("--methods", "dense,static", "--sparsity", "0.8,0.9", "--seeds", 1, "--jobs", 1)
    code, out, err = command("compare", *arguments, "--out", tmp_path, "--json", "--quiet")
    rows = json.loads(out)["rows"]
    names = ["dense_seed-0", "static_sparsity-0.8_seed-0", "static_sparsity-0.9_seed-0"]
    assert (code, err, [row["run"] for row in rows]) == (0, "", names)
    assert [row["steps"] for row in rows] == [2, 2, 2]
    # A step of static training takes a fifth and a tenth of the FLOPs, up to rounding.
    shares = [row["training_flops"] / rows[0]["training_flops"] for row in rows]
    assert shares == pytest.approx([1, 0.2, 0.1], abs=0.01)
    assert (tmp_path / "sweep.png").exists()


def test_both_searches_rewind_to_the_same_step_and_reach_the_same_density():
    runs = Sweep.from_dict(presets.comparison(quick=True)).runs
    by_method = {run.name.split("_")[0]: run.settings for run in runs if run.search is None}
    assert len(runs) == len(presets.COMPARED) == len(by_method) + 1
    imp, cs = by_method["imp"], by_method["cs"]
    assert imp.rewind_to_step == cs.rewind_to_step == 2 * 19
    assert (imp.sparsity, cs.target_density, cs.exact_density) == (0.95, 0.05, True)
    assert {settings.epochs for settings in by_method.values()} == {10}
    names = {run.name for run in Sweep.from_dict(presets.comparison(methods=("retrained",))).runs}
    assert "imp_sparsity-0.98_seed-2_retrained" in names and "dense_seed-0" not in names


@pytest.mark.parametrize("dataset", presets.DATASETS)
def test_one_epoch_leaves_a_step_to_rewind_to(dataset):
    spec = presets.comparison(dataset, epochs=1, data_dir="data")
    (cs,) = (r for r in Sweep.from_dict(spec).runs if r.name == "cs_sparsity-0.9_seed-0")
    assert (cs.settings.rewind_to_step, cs.data["dataset"]) == (0, dataset)


def test_conclusions_of_the_demonstration():
    flops = {"dense": 100.0, "rigl": 8.0, "imp": 250.0}
    rows = [
        {"run": f"{name}_seed-0", "training_flops": cost, "file_bytes": 1000, "file_accuracy": 0.9}
        for name, cost in flops.items()
    ]
    again = {"run": "imp_retrained", "retrained": True, "density": 0.05}
    rows.append({**again, "file_bytes": 70, "file_accuracy": 0.88})
    text = " ".join(demo.conclusions(SweepResult((), rows, {})))
    for words in ("keeps 5%", "has 7% of", "88.0% accuracy", "90.0%", "needs 8%", "2.5 times"):
        assert words in text
    assert demo.conclusions(SweepResult((), rows[:1], {"imp": "failed"})) == []


@needs_tensorflow
@pytest.mark.thorough("the same preset with two steps, and the export in test_exporting.py")
def test_compare_quick_as_a_user(command, tmp_path):
    code, out, _ = command("compare", "--quick", "--out", tmp_path, "--jobs", 2, "--json")
    rows = {row["run"]: row for row in json.loads(out)["rows"]}
    assert code == 0 and len(rows) == len(presets.COMPARED)
    dense = rows.pop("dense_seed-0")
    for row in rows.values():
        assert row["density"] == pytest.approx(0.05, abs=1e-3)
        assert row["file_accuracy"] == pytest.approx(row["test_accuracy"], abs=0.01)
        assert row["test_accuracy"] > 0.75
        assert row["file_bytes"] < dense["file_bytes"] / 8
