"""One's own model and data in every command that takes them."""

import csv
import json

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.experiments import sweeps, training

pytestmark = pytest.mark.usefixtures("size")
QUICK = ("--epochs", 1, "--batch-size", 16, "--sparsity", 0.5)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Folder with a network, a table with names of classes, and arrays for it."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (rng.normal(size=(60, 4)) + y[:, None]).astype("float32")
    with open(folder / "pets.csv", "w", newline="") as file:
        rows = [[*row, ("cat", "dog", "emu")[label]] for row, label in zip(x, y, strict=True)]
        csv.writer(file).writerows([["a", "b", "c", "d", "animal"], *rows])
    np.savez(folder / "pets.npz", x=x, y=y)
    np.savez(folder / "wide.npz", x=np.zeros((60, 5)), y=y)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "relu", name="hidden"),
            keras.layers.Dense(3, "softmax", name="output"),
        ],
        name="own",
    )
    model.save(folder / "own.keras")
    model.save(folder / "old.h5")
    return folder


@pytest.fixture(scope="module")
def trained(own):
    """Folder of a training of the network."""
    from tf_lottery_cli import main

    given = ("--model", own / "own.keras", "--data", own / "pets.csv", "--out", own / "run")
    assert main([str(a) for a in ("train", "--method", "static", *given, *QUICK, "--quiet")]) == 0
    return own / "run"


def test_train_starts_with_the_weights_of_the_file(command, own, tmp_path):
    given = ("--model", own / "own.keras", "--data", own / "pets.csv", "--out", tmp_path)
    code, out, err = command("train", "--method", "gmp", *given, *QUICK, "--json")
    assert code == 0 and "pets.csv: 48 for training, 6 for validation, 6 for test" in err
    assert "Classes: 0 cat, 1 dog, 2 emu\n" in err and "val_accuracy" in err
    found = json.loads(out)
    assert (found["folder"], found["density"]) == (str(tmp_path), 0.5)
    settings = found["settings"]
    assert (settings["model"], settings["data"]) == ("own.keras", "pets.csv")
    start = keras.saving.load_model(own / "own.keras").get_weights()[0]
    ticket = tfl.Ticket.load(tmp_path / "ticket.npz")
    model = keras.saving.load_model(tmp_path / "model.keras")
    # One short epoch moves weights little.
    kept = ticket.masks["hidden/kernel"]
    assert np.abs(model.get_weights()[0] - start)[kept].max() < 0.05


def test_other_data_or_another_model_are_refused(refused, command, own, trained, tmp_path):
    fixed = ("train", "--method", "static", *QUICK, "--quiet", "--out", trained)
    same = ("--model", own / "own.keras", "--data", own / "pets.csv")
    code, out, _ = command(*fixed, *same)
    assert code == 0 and "Test accuracy" in out
    line = refused(*fixed, "--model", own / "own.keras", "--data", own / "pets.npz")
    assert "data='pets.csv' instead of 'pets.npz'" in line
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(tmp_path / "own.keras")
    line = refused(*fixed, "--model", tmp_path / "own.keras", "--data", own / "pets.csv")
    assert "model_digest=" in line


def test_retrain_asks_for_model_and_data(command, refused, own, trained, tmp_path):
    ticket = ("retrain", trained / "ticket.npz", "--out", tmp_path, *QUICK[:4])
    assert "--data must be given" in refused(*ticket)
    line = refused(*ticket, "--data", own / "pets.csv")
    assert "--model must be given, since the run of TICKET had one of your own, 'own.keras'" in line
    given = ("--model", own / "own.keras", "--data", own / "pets.csv")
    line = refused(*ticket, *given, "--control", "random-reinitialization", "--quiet")
    assert "one set of them" in line
    code, out, err = command(*ticket, *given, "--tweaks", "label-smoothing", "--quiet", "--json")
    assert (code, err) == (0, "") and json.loads(out)["density"] == 0.5


def test_stability(command, refused, own, trained, tmp_path):
    given = ("--model", own / "own.keras", "--data", own / "pets.csv", "--points", 2)
    arguments = ("stability", *given, *QUICK[:4], "--out", tmp_path)
    assert "`start`" in refused(*arguments, "--dense", "independent", "--quiet")
    code, out, err = command(*arguments, "--quiet", "--json")
    assert (code, err, list(json.loads(out))) == (0, "", ["dense_shared"])


def test_prune_takes_every_kind_of_data(command, own, tmp_path):
    for data in ("pets.csv", "pets.npz"):
        arguments = ("prune", own / "own.keras", "--data", own / data, "--sparsity", 0.5)
        code, out, _ = command(*arguments, "-o", tmp_path / "small.keras", "--json")
        assert code == 0 and json.loads(out)["summary"]["nonzeros"] == 28


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--model {}/own.kears --data {}/pets.csv", "--model: invalid choice"),
        ("--model {}/nwo.keras --data {}/pets.csv", "did you mean '{}/own.keras'?"),
        ("--model {}/old.h5 --data {}/pets.csv", "keras.saving.load_model('{}/old.h5').save("),
        ("--model {}/own.keras --data {}/pet.csv", "did you mean '{}/pets.csv'?"),
        ("--model {}/own.keras --data {}/wide.npz", "(None, 4) float32"),
        ("--model {}/own.keras --data {}", "a folder of images for a model"),
        ("--data {}/pets.csv --dataset digits", "not allowed with argument --data"),
        ("--data {}/pets.csv --label-column animals", "did you mean 'animal'?"),
        ("--data {}/pets.csv --pixel-range 0", "must be two numbers, such as 0,1. Received: '0'"),
        ("--data {}/pets.csv --model lenet-5", "'lenet-5' takes images"),
        ("--test-data {}/pets.csv", "--test-data must come with --data"),
        ("--data {}/pets.csv --import no_module_of_a_test", "No module named 'no_module_of"),
        ("--model lenet-30-100", "did you mean 'lenet-300-100'?"),
    ],
)
def test_what_is_refused(refused, own, tmp_path, arguments, words):
    given = arguments.replace("{}", str(own)).split()
    line = refused("train", "--method", "gmp", *given, *QUICK, "--quiet", "--out", tmp_path / "run")
    assert words.replace("{}", str(own)) in line
    assert not (tmp_path / "run").exists()


def test_sweep(own, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(training, "run_training", lambda *given: asked.append(given) or {})
    monkeypatch.chdir(own)
    spec = {"data": "pets.csv", "model": "own.keras", "method": ["gmp", "rigl"], "normalize": True}
    sweep = sweeps.Sweep.from_dict(spec)
    monkeypatch.chdir(tmp_path)
    for run in sweep.runs:
        run.train(tmp_path)
    (data, settings, folder, seed, _), (again, *_) = asked
    assert (data.classes, settings.model) == (("cat", "dog", "emu"), str(own / "own.keras"))
    assert (folder.name, seed, again is data) == ("gmp_seed-0", 0, True)
    known = sweep.runs[0]._determining({}, tmp_path)
    assert (known["data_digest"], known["normalize"]) == (data.digest, True)
    assert known["model_digest"] and known["model"] == "own.keras"
    for wrong, message in (
        ({"data": "pets.csv", "dataset": "digits"}, "exclude each other"),
        ({"label_column": "animal"}, "`label_column` of a sweep must come with `data`"),
        ({"data": "pets.csv", "pixel_range": "0"}, "`pixel_range` of a sweep must be two numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            sweeps.Sweep.from_dict(wrong)
