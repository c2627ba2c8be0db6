import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import tf_lottery as tfl
import tf_lottery_cli as cli
from tf_lottery.experiments import checkpoint, data, demo, methods, networks, training
from tf_lottery.experiments.sweeps import presets
from tf_lottery.export import candidates, quantization, runtimes
from tf_lottery_cli import compare, data_options, model_options, terminal
from tf_lottery_cli import parser as options

ROOT = pathlib.Path(__file__).parents[2]
COMMANDS = (
    "demo",
    "compare",
    "train",
    "retrain",
    "sweep",
    "list",
    "compress",
    "prune",
    "stability",
    "summary",
    "export",
    "inspect",
)
needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the export needs Keras on TensorFlow"
)
on_tensorflow = keras.backend.backend() == "tensorflow"
trains = pytest.mark.usefixtures("size")


def run_process(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(command, name):
    code, out, err = command(name, "-h")
    assert (code, err) == (0, "")
    description = out.split("\n\n")[1]
    assert len(description) > 200
    assert "Use " in description
    assert f"\n  tf-lottery {name}" in out


def test_help_lists_the_commands(command):
    code, out, _ = command("-h")
    assert code == 0
    for name in COMMANDS:
        assert f"\n    {name} " in out


def test_version(command):
    assert command("--version") == (0, f"tf-lottery {tfl.__version__}\n", "")


def test_help_does_not_wait_for_keras():
    code = (
        "import sys; sys.argv = ['tf-lottery', 'demo', '-h']\n"
        "from tf_lottery_cli import main\n"
        "try: main()\n"
        "finally: assert 'keras' not in sys.modules and 'numpy' not in sys.modules"
    )
    result = run_process("-c", code)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.thorough("imports TensorFlow in a process; the same commands run in this one")
def test_a_process_prints_nothing_but_its_result(files):
    result = run_process("-m", "tf_lottery_cli", "summary", files["sparse"])
    assert (result.returncode, result.stderr) == (0, "")
    assert "75.00%" in result.stdout


def test_choices_are_the_library_s():
    assert data.DATASETS == data_options.DATASETS
    assert data.IMAGES == data_options.IMAGES == tuple(demo.SETTINGS) == presets.DATASETS
    assert compare.COMPARED == presets.COMPARED
    assert tuple(networks.MODELS) == model_options.MODELS
    assert methods.DISTRIBUTIONS == options.DISTRIBUTIONS
    assert tfl.sparsity.masks.SCOPES == options.SCOPES
    rewinds = sys.modules["tf_lottery.callbacks.iterative_magnitude_pruning"].REWINDS
    assert rewinds == options.REWINDS
    modes = sys.modules["tf_lottery.callbacks.continuous_sparsification"].MODES
    assert modes == options.MODES
    assert candidates.GOALS == options.GOALS
    assert quantization.STORAGES == options.STORAGES
    assert (runtimes.RUNTIMES, runtimes.IO_TYPES) == (options.RUNTIMES, options.IO_TYPES)
    assert (None, *options.PRECISIONS) == tuple(quantization.TOLERANCES)
    # The rate is another way to give the levels.
    known = {method: {*names} - {"rate"} for method, names in options.METHODS.items()}
    assert known == {method: {*names} for method, names in methods.OPTIONS.items()}
    assert tuple(options.METHODS) == methods.METHODS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "COMMAND"),
        ("dmo", "invalid choice: 'dmo'"),
        ("demo --dataset minst", "--dataset: invalid choice: 'minst'"),
        ("demo --levels 0", "--levels: must be an integer from 1 to 30. Received: '0'"),
        ("demo --levels two", "Received: 'two'"),
        ("demo --replicates 0", "--replicates: must be an integer >= 1"),
        ("demo --seed -1", "--seed: must be an integer >= 0"),
        ("demo --level 2", "unrecognized arguments: --level"),
        ("demo --levels 2", "--levels must come with --full. Received: --levels 2"),
        ("compare --sparsity 0.9,2", "above 0 and below 1. Received: '2'"),
        ("compare --jobs 0", "--jobs: must be an integer >= 1"),
        ("compare --methods dense,rigll", "--methods must be names of dense, static"),
        ("compare --quantize int4", "--quantize: invalid choice: 'int4'"),
        ("train --dataset digits", "required: --method"),
        ("train --method gmp --augment flop", "--augment must be names of flip, shift"),
        ("train --method gmp --image-size 0", "--image-size: must be an integer >= 1"),
        ("train --method gmp --schedule linear", "--schedule: invalid choice: 'linear'"),
        ("train --method ipm", "--method: invalid choice: 'ipm'"),
        ("train --method gmp --sparsity 1.5", "above 0 and below 1. Received: '1.5'"),
        ("train --method gmp --sparsity -1", "above 0 and below 1. Received: '-1'"),
        ("train --method gmp --sparsity nan", "above 0 and below 1. Received: 'nan'"),
        ("train --method gmp --scope all", "--scope: invalid choice: 'all'"),
        ("train --method gmp --epochs 0", "--epochs: must be an integer >= 1"),
        ("train --method gmp --learning-rate 0", "must be a number above 0. Received: '0'"),
        ("train --method gmp --levels 3", "--levels is an option of --method imp"),
        ("train --method gmp --rewind-to-step 3", "--rewind-to-step is an option of --method imp"),
        ("train --method imp --levels 2 --rate 0.2", "--levels and --rate exclude each other"),
        (
            "train --method static --drop-fraction 0.1",
            "--drop-fraction is an option of --method rigl, set, snfs. Received: --method static",
        ),
        ("train --method dense --sparsity 0.5", "--sparsity is an option of --method rigl, set"),
        ("train --method imp --distribution erk", "--distribution is an option of --method rigl"),
        ("train --method rigl --scope layer", "--scope is an option of --method gmp, snip"),
        ("train --method rigl --distribution eerk", "invalid choice: 'eerk'"),
        ("train --method rigl --frequency 0", "--frequency: must be an integer >= 1"),
        ("train --method cs --sparsity 0.9", "--sparsity is an option of --method rigl, set"),
        ("train --method imp --rounds 2", "--rounds is an option of --method cs. Received: --met"),
        ("train --method cs --rounds 0", "--rounds: must be an integer >= 1"),
        ("train --method cs --target-density 0.2,2", "above 0 and below 1. Received: '2'"),
        ("train --method cs --target-density 0.2,", "above 0 and below 1. Received: ''"),
        ("train --method cs --initial-value high", "must be a number. Received: 'high'"),
        ("train --method cs --initial-value=-0.1,60x", "must be a number. Received: '60x'"),
        ("train --method cs --mode prunes", "--mode: invalid choice: 'prunes'"),
        ("train --method cs --exact-density", "`exact_density` needs a `target_density`"),
        ("demo --dataset tiny_shakespeare", "invalid choice: 'tiny_shakespeare'"),
        ("export model.keras --storage spars", "--storage: invalid choice: 'spars'"),
        ("export model.keras --tolerance inf", "must be a number above 0. Received: 'inf'"),
        ("export model.keras --quantize int4", "--quantize: invalid choice: 'int4'"),
        ("export model.keras --runtime arm", "--runtime: invalid choice: 'arm'"),
        ("export model.keras --max-slowdown 0.5", "must be a number of 1 or more, or inf"),
        ("export model.keras --optimize-for size", "--optimize-for: invalid choice: 'size'"),
        ("export model.keras --sparsity 90", "must be a number above 0 and below 1"),
        ("export model.keras --pattern 4x1", "--pattern must come with --sparsity"),
        ("summary", "required: FILE"),
        ("inspect", "required: FILE"),
    ],
)
def test_wrong_arguments(refused, empty_files, arguments, words):
    empty_files("model.keras")
    assert words in refused(*arguments.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("inspect modle.keras", "FILE: must be a file that is there; did you mean 'model.keras'?"),
        ("export a/modle.keras", "FILE: must be a file that is there; did you mean 'a/model.keras"),
        ("summary b/modle.keras", "FILE: must be a file that is there. Received: 'b/modle.keras'"),
        ("compress a", "FILE: must be a file. Received: 'a', a folder"),
        ("prune model.keras --data a/tran.npz", "--data: must be a file or folder that is there; "),
        ("export model.keras --verify-data no", "--verify-data: must be a file or folder that is"),
        ("export model.keras --associated-file no", "--associated-file: must be a file that is"),
        ("train --method gmp --model b/x.keras", "--model: must be a file that is there. Receive"),
        ("train --method gmp --test-data no", "--test-data: must be a file or folder that is"),
        ("retrain no.npz", "TICKET: must be a file that is there. Received: 'no.npz'"),
        ("stability no.npz", "TICKET: must be a file that is there. Received: 'no.npz'"),
        ("sweep no.json", "SPEC: must be a file that is there. Received: 'no.json'"),
    ],
)
def test_missing_files_are_found_before_keras_is_imported(
    refused, empty_files, monkeypatch, arguments, words
):
    monkeypatch.setattr(terminal, "_keras", None)
    empty_files("model.keras", "a/model.keras", "a/train.npz")
    assert words in refused(*arguments.split())


@pytest.mark.parametrize("name", ["demo", "train --method gmp"])
def test_missing_data_set(refused, tmp_path, name):
    line = refused(
        *name.split(), "--dataset", "mnist", "--data-dir", tmp_path, "--out", tmp_path / "run"
    )
    assert "holds 'mnist'" in line and str(tmp_path) in line and "--download" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["train --method gmp", "train --method imp"])
def test_a_file_in_place_of_the_folder(refused, tmp_path, name):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        assert "--out" in refused(*name.split(), "--out", out)
    assert (tmp_path / "file").read_text() == "mine"


def test_arguments_that_fit_no_network(refused, tmp_path):
    out = ("--out", tmp_path / "run")
    line = refused("train", "--method", "imp", "--rewind-to-step", 9999, *out)
    assert "`rewind_to_step` must lie within the first level" in line
    assert "`batch_size`" in refused("train", "--method", "gmp", "--batch-size", 2000, *out)
    line = refused("train", "--method", "rigl", "--model", "gru", *out)
    assert "'gru' is for text" in line and "'digits', which is images" in line
    assert "has 190 steps" in refused("train", "--method", "rigl", "--end-step", 191, *out)
    assert "`pattern` must be" in refused("train", "--method", "rigl", "--pattern", "2:x", *out)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["summary", "export"])
@pytest.mark.parametrize("kind", ["folder", "text", "truncated", "array", "zip", "config"])
def test_files_that_are_neither_model_nor_ticket(refused, tmp_path, files, name, kind, contents):
    path = tmp_path / "broken.keras"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello")
    elif kind == "truncated":
        path.write_bytes(files["plain"].read_bytes()[:5000])
    elif kind == "array":
        np.save(tmp_path / "array.npy", np.ones(3))
        path = tmp_path / "array.npy"
    elif kind == "zip":
        np.savez(tmp_path / "arrays.npz", np.ones(3))
        path = tmp_path / "arrays.npz"
    elif kind == "config":
        import zipfile

        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
    before = contents(tmp_path)
    assert str(path) in refused(name, path)
    assert contents(tmp_path) == before


def test_truncated_ticket(refused, tmp_path, files):
    path = tmp_path / "broken.npz"
    path.write_bytes(files["ticket"].read_bytes()[:-100])
    assert "damaged" in refused("summary", path)


def test_model_of_an_unknown_class(refused, tmp_path, make_model, monkeypatch):
    make_model("subclassed").save(tmp_path / "own.keras")
    monkeypatch.setattr(keras.saving, "get_custom_objects", dict)
    monkeypatch.delitem(keras.saving.get_custom_objects(), "tests>Subclassed", raising=False)
    objects = keras.src.saving.object_registration.GLOBAL_CUSTOM_OBJECTS
    monkeypatch.delitem(objects, "tests>Subclassed")
    assert "Could not locate class 'Subclassed'" in refused("summary", tmp_path / "own.keras")


@pytest.mark.parametrize("name", ["sparse", "plain", "ticket"])
def test_summary(command, files, name):
    code, out, err = command("summary", files[name])
    assert (code, err) == (0, "")
    assert "hidden/kernel" in out and "75.00%" in out
    assert ("Ticket of level 3, density 25.00%" in out) == (name == "ticket")


@pytest.mark.parametrize("name", ["sparse", "plain", "ticket"])
def test_summary_as_json(command, files, name):
    code, out, _ = command("summary", files[name], "--json")
    summary = json.loads(out)
    assert (code, summary["density"], summary["size"], summary["nonzeros"]) == (0, 0.25, 72, 18)
    assert [kernel["nonzeros"] for kernel in summary["kernels"]] == [12, 6]
    assert ("provenance" in summary) == (name == "ticket")
    assert summary["num_bytes"]["dense"] == 332
    if name == "ticket":
        assert (summary["flops"], summary["no_flops"]) == (None, "a ticket holds no architecture")
    else:
        assert (summary["flops"]["sparse"], summary["flops"]["dense"]) == (36, 144)


@pytest.mark.skipif(on_tensorflow, reason="about the other backends")
def test_other_backends_name_the_way_out(refused, files, tmp_path):
    assert "KERAS_BACKEND=tensorflow" in refused("export", files["plain"])
    for name in ("demo", "compare", "demo --full"):
        assert "KERAS_BACKEND=tensorflow" in refused(*name.split(), "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


TRAIN = {
    "gmp": "train --method gmp --sparsity 0.8 --epochs 2 --batch-size 200",
    "imp": "train --method imp --sparsity 0.5 --rate 0.3 --epochs 1 --batch-size 200",
    "rigl": "train --method rigl --sparsity 0.8 --epochs 2 --batch-size 200 --frequency 2",
    "cs": "train --method cs --target-density 0.2 --exact-density --rounds 1 --epochs 2 "
    "--batch-size 200",
}


@pytest.mark.filterwarnings("ignore:.* undecided")
@pytest.mark.parametrize(
    ("method", "size"),
    [
        ("gmp", "compiled"),
        ("imp", "small"),
        *(
            pytest.param(method, "full", marks=pytest.mark.thorough("compiles LeNet-300-100"))
            for method in TRAIN
        ),
    ],
    indirect=["size"],
)
def test_train(command, size, tmp_path, method, contents):
    arguments = (*TRAIN[method].split(), "--out", tmp_path / "run")
    code, out, err = command(*arguments)
    assert (code, err) == (0, "")
    assert "Test accuracy" in out and "model.keras" in out
    ticket = tfl.Ticket.load(tmp_path / "run" / "ticket.npz")
    assert ticket.density == pytest.approx(0.5 if method == "imp" else 0.2, abs=1e-4)
    assert ticket.level == (2 if method == "imp" else 0)
    before = contents(tmp_path / "run")
    code, again, _ = command(*arguments)
    assert code == 0 and "Epoch" not in again
    assert again.splitlines()[-3:] == out.splitlines()[-3:]
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("gmp", {"sparsity": 0.8}),
        ("imp", {"sparsity": 0.5, "levels": 2}),
        ("rigl", {"sparsity": 0.8, "frequency": 2}),
        ("cs", {"target_density": 0.2, "exact_density": True, "rounds": 1}),
    ],
)
def test_options_reach_the_training(command, tmp_path, monkeypatch, method, options):
    def run_training(data, settings, directory, seed, verbose):
        asked.append((data.name, settings, directory, seed))
        raise KeyboardInterrupt

    asked = []
    monkeypatch.setattr(training, "run_training", run_training)
    arguments = (*TRAIN[method].split(), "--seed", 3, "--learning-rate", 0.01)
    code, _, err = command(*arguments, "--out", tmp_path)
    assert code == 130
    assert err == "tf-lottery: interrupted (the same command goes on from the last epoch)\n"
    settings = training.TrainSettings(
        method,
        epochs=1 if method == "imp" else 2,
        batch_size=200,
        learning_rate=0.01,
        **options,
    )
    assert asked == [("digits", settings, str(tmp_path), 3)]


@trains
@pytest.mark.filterwarnings("ignore:.* undecided")
def test_several_densities(command, tmp_path):
    arguments = TRAIN["cs"].replace("0.2", "0.3,0.1").split()
    code, out, err = command(*arguments, "--out", tmp_path)
    assert (code, err) == (0, "")
    for density, cost in (("0.3", 14), ("0.1", 24)):
        folder = tmp_path / f"target_density_{density}"
        assert f"Run in {folder}" in out
        ticket = tfl.Ticket.load(folder / "ticket.npz")
        assert ticket.density == pytest.approx(float(density), abs=1e-4)
        # Rounds and retraining of two epochs each, compared with levels of two epochs.
        assert re.search(rf"{float(density):.2%} .*\D4 .*\D{cost} ", out)


@trains
@pytest.mark.parametrize(
    "method", ["gmp", pytest.param("rigl", marks=pytest.mark.thorough("gmp stands for it"))]
)
def test_interrupted_training_goes_on(command, tmp_path, monkeypatch, method):
    arguments = TRAIN[method].split()
    assert command(*arguments, "--out", tmp_path / "a")[0] == 0
    on_epoch_begin = checkpoint.Checkpoint.on_epoch_begin

    def interrupt(self, epoch, logs=None):
        on_epoch_begin(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoint, "on_epoch_begin", interrupt)
    code, _, err = command(*arguments, "--out", tmp_path / "b")
    assert code == 130
    assert err == "tf-lottery: interrupted (the same command goes on from the last epoch)\n"
    monkeypatch.undo()
    code, out, _ = command(*arguments, "--out", tmp_path / "b")
    assert code == 0 and "Epoch 1/2" not in out
    a, b = (tfl.Ticket.load(tmp_path / name / "ticket.npz") for name in "ab")
    for name, weight in a.weights.items():
        np.testing.assert_array_equal(weight, b.weights[name])
    assert a.overlap(b) == 1.0


@trains
def test_other_arguments_in_the_same_folder(command, refused, tmp_path, contents):
    arguments = (*TRAIN["gmp"].split(), "--out", tmp_path)
    assert command(*arguments)[0] == 0
    (tmp_path / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    line = refused(*arguments, "--seed", 1)
    assert "--fresh" in line and "seed=0 instead of 1" in line
    assert contents(tmp_path) == before
    assert "had finished before: nothing was trained" in command(*arguments)[1]
    assert contents(tmp_path) == before
    assert command(*arguments, "--seed", 1, "--fresh")[0] == 0
    assert json.loads((tmp_path / "settings.json").read_text())["seed"] == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.thorough("reads all images of MNIST")
def test_train_on_mnist(command, tfds_dir, tmp_path):
    arguments = "train --method gmp --sparsity 0.9 --epochs 1 --batch-size 2000 --dataset mnist"
    code, _, err = command(*arguments.split(), "--data-dir", tfds_dir, "--out", tmp_path)
    assert (code, err) == (0, "")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["settings"]["dataset"] == "mnist"
    assert results["density"] == pytest.approx(0.1, abs=1e-5)


@pytest.mark.thorough("compiles a language model")
def test_train_on_text(command, tfds_dir, tmp_path):
    if not (tfds_dir / "tiny_shakespeare").is_dir():
        pytest.skip(f"tiny_shakespeare is not in {tfds_dir}")
    arguments = "train --method rigl --dataset tiny_shakespeare --epochs 1 --batch-size 2000"
    arguments += " --sparsity 0.75 --drop-fraction 0.1 --frequency 2 --end-step 5"
    code, out, err = command(*arguments.split(), "--data-dir", tfds_dir, "--out", tmp_path)
    assert (code, err) == (0, "")
    results = json.loads((tmp_path / "results.json").read_text())
    assert f"{results['test_bits_per_character']:.3f} bits per character at 25.00%" in out
    assert results["settings"]["model"] == "gru"


@needs_tensorflow
@pytest.mark.thorough("tests/experiments/test_demo.py trains the same")
def test_full_demo(command, size, tmp_path, monkeypatch):
    # Keras runs several steps per call only in compiled functions.
    steps = {"steps_per_epoch": 20} if size == "full" else {"steps_per_epoch": 4, "frequency": 2}
    at_once = {"steps_per_execution": 1} if size == "small" else {}
    few = dataclasses.replace(demo.SETTINGS["digits"], **steps, **at_once)
    monkeypatch.setitem(demo.SETTINGS, "digits", few)
    arguments = ("demo", "--full", "--levels", 2, "--replicates", 1, "--out", tmp_path / "run")
    code, out, err = command(*arguments)
    assert code == 0
    assert f"│    2 │  {'64.3%' if size == 'full' else '66.3%'} │" in out
    assert "Next: tf-lottery summary" in out.replace("\n", " ")
    trained = [line for line in err.splitlines() if "accuracy" in line]
    assert len(trained) == 6
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "dense.tflite",
        "lottery.png",
        "replicate_0",
        "results.json",
        "settings.json",
        "ticket_02.tflite",
    }
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    code, _, err = command(*arguments)
    assert code == 0 and "accuracy" not in err
    assert json.loads((tmp_path / "run" / "results.json").read_text())["rows"] == rows


def test_full_demo_shows_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    row = {"replicate": 1, "level": 2, "density": 0.64, "test_accuracy": 0.9}
    with cli.full_demo.show_progress(levels=2, replicates=2) as on_row:
        for kind in ("ticket", "reinitialized", "rigl", "export"):
            on_row({**row, "kind": kind})
    assert "Exports level 2: density 64.0%" in capsys.readouterr().err


@needs_tensorflow
def test_full_demo_interrupted(command, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run_lottery", interrupt)
    code, out, err = command("demo", "--full", "--out", tmp_path)
    assert (code, out) == (130, "")
    assert err == "tf-lottery: interrupted (the same command goes on where it stopped)\n"


def test_reader_that_leaves(command, files, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as left:
        monkeypatch.setattr(sys, "stdout", left)
        assert command("summary", files["sparse"]) == (1, "", "")


@pytest.mark.thorough("imports TensorFlow in a process of its own")
def test_reader_that_leaves_a_process(files):
    script = f"{sys.executable} -m tf_lottery_cli summary {files['sparse']} | true"
    result = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.stderr == ""
