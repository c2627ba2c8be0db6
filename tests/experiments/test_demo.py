import dataclasses
import io
import json
import shutil

import keras
import pytest
from rich.console import Console

from tf_lottery.experiments import demo

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export needs Keras on TensorFlow"
)

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def settings(mode):
    # Keras runs several steps per call only in compiled functions.
    return dataclasses.replace(
        demo.SETTINGS["digits"],
        levels=2,
        steps_per_epoch=4,
        batch_size=20,
        frequency=2,
        steps_per_execution=2 if mode == "compiled" else 1,
    )


@pytest.fixture(scope="module")
def run(small_networks, digits, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    rows = []
    result = demo.run_demo(digits, settings, folder, replicates=2, on_row=rows.append)
    return folder, result, rows


def make_result(gain=0.02, levels=(0, 5, 10, 14), rigl=None):
    rows = []
    for level in levels:
        ticket = {"level": level, "density": 0.8**level, "iteration": 300, "loss": 0.1}
        for replicate in range(2):
            rows.append({**ticket, "kind": "ticket", "replicate": replicate, "test_accuracy": 0.92})
            if level:
                accuracy = 0.92 - gain + 0.02 * replicate - 0.01
                control = {"kind": "reinitialized", "replicate": replicate}
                rows.append({**ticket, **control, "iteration": 390, "test_accuracy": accuracy})
    if rigl:
        rows.append({**ticket, "kind": "rigl", "replicate": 0, "test_accuracy": rigl})
    exports = [{"level": level, "num_bytes": round(1e5 * 0.8**level)} for level in levels[::3]]
    return demo.DemoResult("digits", 300, rows, exports)


def render(result):
    console = Console(width=80, file=io.StringIO())
    console.print(result)
    return console.file.getvalue()


def test_table_shows_means_and_fits_80_columns():
    text = render(make_result(rigl=0.914))
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    row = next(line for line in text.splitlines() if line.startswith("│   14"))
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["14", "4.4%", "92.0%", "90.0%", "91.4%", "300", "390", "4,398", "0.04"]
    dense = next(line for line in text.splitlines() if "│dense │" in line)
    cells = [cell.strip() for cell in dense.strip("│").split("│")]
    assert cells == ["dense", "100.0%", "92.0%", "", "", "300", "", "100,000", "1.00"]


@pytest.mark.parametrize(
    ("gain", "words"), [(0.02, "the initial weights matter"), (-0.01, "made no difference")]
)
def test_conclusions_follow_the_numbers(gain, words):
    text = " ".join(make_result(gain).conclusions())
    assert words in text
    assert f"better at {2 if gain > 0 else 0} of 2 levels" in text
    assert "4.4% of the weights and reach 92.0%" in text
    assert "4% of the dense one's bytes" in text


@pytest.mark.parametrize(
    ("rigl", "words"),
    [
        (0.90, "reaches 90.0% with as few weights, 2.0 points below the ticket."),
        (0.95, "reaches 95.0% with as few weights, 3.0 points above the ticket."),
        (0.923, "reaches 92.3% with as few weights, as accurate as the ticket."),
    ],
)
def test_conclusions_compare_rigl(rigl, words):
    text = " ".join(make_result(rigl=rigl).conclusions())
    assert words in text
    assert "one training, sparse" in text and "the ticket took 15 of that length" in text
    assert "RigL" not in " ".join(make_result().conclusions())


def test_conclusions_without_sparse_levels():
    result = make_result(levels=(0, 1, 2, 3))
    assert len(result.conclusions()) == 2


def test_result_is_fit_for_json():
    result = make_result()
    assert json.loads(json.dumps(result.to_dict()))["rows"] == result.rows


@needs_tensorflow
def test_run(run):
    folder, result, rows = run
    kinds = ["ticket"] * 3 + ["reinitialized"] * 2 + ["rigl"]
    assert [row["kind"] for row in rows[:6]] == kinds
    assert [row["replicate"] for row in rows[:12]] == [0] * 6 + [1] * 6
    assert [(row["kind"], row["level"]) for row in rows[12:]] == [("export", 0), ("export", 2)]
    assert sorted(row["test_accuracy"] for row in rows[:12]) == sorted(
        row["test_accuracy"] for row in result.rows
    )
    for row in rows[:12]:
        if row["kind"] == "rigl":
            assert row["level"] == 2
            assert row["density"] == pytest.approx(result.mean("ticket", 2, "density"), abs=1e-3)
    assert (folder / "lottery.png").read_bytes().startswith(b"\x89PNG")
    for export in result.exports:
        assert (folder / export["path"]).stat().st_size == export["num_bytes"]
        assert export["max_difference"] < 1e-4
    saved = json.loads((folder / "results.json").read_text())
    assert saved["rows"] == result.rows
    assert saved["settings"]["levels"] == 2


@needs_tensorflow
def test_replicates_differ(run):
    result = run[1]
    dense = [row["loss"] for row in result.rows if row["kind"] == "ticket" and not row["level"]]
    assert len(set(dense)) == 2


@needs_tensorflow
def test_second_run_does_nothing(run, digits, settings):
    folder, result, _ = run
    rows = []
    again = demo.run_demo(digits, settings, folder, replicates=2, on_row=rows.append)
    assert again == result
    assert rows == []


@needs_tensorflow
def test_remove_demo(run, tmp_path):
    shutil.copytree(run[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "replicate_0" / "notes.txt").write_text("mine")
    demo.remove_demo(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["replicate_0", "notes.txt"]


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="about the other backends")
def test_other_backend_is_refused_before_training(digits, tmp_path):
    with pytest.raises(RuntimeError, match="set KERAS_BACKEND=tensorflow. Received: .*'jax'"):
        demo.run_demo(digits, demo.SETTINGS["digits"], tmp_path / "run")
    assert not (tmp_path / "run").exists()
