import json
import re
import shutil

import keras
import numpy as np
import pytest

import tf_lottery as tfl
import tf_lottery_cli as cli
from tf_lottery.experiments import (
    batches,
    checkpoint,
    data,
    networks,
    optimizer_settings,
    retraining,
)
from tf_lottery.layers.soft_activations import ACTIVATIONS
from tf_lottery_cli import parser as options

QUICK = ("--epochs", 1, "--batch-size", 400)


@pytest.fixture(scope="module", autouse=True)
def few_iterations():
    """Reduces rescaling from 180 iterations to two."""
    recipe = tfl.retrain.recipe
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "tf_lottery.experiments.recipes.recipe",
            lambda *args, **kwargs: recipe(*args, rescaling_iterations=2, **kwargs),
        )
        yield


@pytest.fixture(scope="module")
def runs(size, tmp_path_factory):
    """Folder with a ticket search for LeNet in `imp` and a dense network in `dense`."""
    folder = tmp_path_factory.mktemp("runs")
    methods = {"imp": ("--sparsity", "0.5", "--levels", "1"), "dense": ()}
    for method, arguments in methods.items():
        arguments = ("--method", method, *arguments, *QUICK, "--out", folder / method)
        assert cli.main(["train", *map(str, arguments)]) == 0
    return folder


def settings_of(folder):
    return json.loads((folder / "settings.json").read_text())


def test_choices_are_the_library_s():
    assert tuple(options.TWEAKS.values()) == tfl.retrain.TWEAKS
    assert tuple(ACTIVATIONS) == options.ACTIVATIONS
    assert [name.replace("-", "_") for name in options.CONTROLS] == [*retraining.CONTROLS]


def test_defaults_are_the_library_s(command):
    help_text = " ".join(command("retrain", "-h")[1].split())
    fields = retraining.RetrainSettings("lenet-5")
    for name in ("annealed", "activation", "alpha", "epochs", "batch_size", "schedule"):
        text = help_text.rsplit(f"--{name.replace('_', '-')} ", 1)[1]
        assert re.search(r"default: ([^)]*)\)", text)[1] == str(getattr(fields, name))
    assert "distill (default: 5)" in help_text and fields.temperature == 5
    assert "(default: 0.0012 with adam, 0.1 with sgd)" in help_text
    assert optimizer_settings.LEARNING_RATES == {"adam": 0.0012, "sgd": 0.1}
    assert optimizer_settings.SCHEDULES == options.SCHEDULES
    assert tuple(optimizer_settings.LEARNING_RATES) == options.OPTIMIZERS
    assert batches.AUGMENTATIONS == options.AUGMENTATIONS


def test_retrain(command, runs, tmp_path, contents):
    ticket = runs / "imp" / "ticket.npz"
    arguments = ("retrain", ticket, *QUICK, "--out", tmp_path)
    code, out, err = command(*arguments)
    assert (code, err) == (0, "")
    origin = runs / "imp" / "settings.json"
    assert f"From {origin}: dataset digits, model lenet-300-100\n" in out
    assert re.search(r"soft activations +│ 0 +│ 1 ", out)
    assert "Rescaled: after one step the loss is" in out
    assert "Left out: ghost-skips (no masked convolution can have one, or a training" in out
    assert "distill (no --teacher, or a training below 10,000 steps)" in out
    assert out.index("Left out") < out.index("val_accuracy")
    fitting = ["soft_activations", "rescaled_initialization", "label_smoothing"]
    assert settings_of(tmp_path)["tweaks"] == fitting
    model = keras.saving.load_model(tmp_path / "model.keras")
    x, y = data.load("digits").test
    accuracy = np.mean(model.predict(x, verbose=0).argmax(axis=-1) == y)
    assert f"Test accuracy {accuracy:.2%} at 50.00% density\n" in out
    assert f"Next: tf-lottery export {tmp_path}/model.keras\n" in out
    assert tfl.Ticket.load(tmp_path / "ticket.npz").overlap(tfl.Ticket.load(ticket)) == 1.0
    before = contents(tmp_path)
    code, again, _ = command(*arguments)
    assert code == 0 and "Epoch" not in again and "Retraining" not in again
    assert again.splitlines()[-3:] == out.splitlines()[-3:]
    assert contents(tmp_path) == before


def test_every_option(command, runs, tmp_path):
    teacher = runs / "dense" / "model.keras"
    arguments = "--tweaks distill,soft-activation --alpha 1 --temperature 3 --activation gelu "
    arguments += "--annealed 1 --control shuffled-masks --learning-rate 0.01 --seed 4"
    code, out, err = command(
        "retrain",
        runs / "imp" / "search" / "ticket_01.npz",
        *(*arguments.split(), "--teacher", teacher, *QUICK, "--out", tmp_path),
    )
    assert (code, err) == (0, "")
    # The ticket of level 1 in the folder of the run.
    assert f"From {runs / 'imp' / 'settings.json'}: dataset digits, model lenet-300-100\n" in out
    assert "Left out" not in out and "Rescaled" not in out
    assert "Control: shuffled-masks\n" in out
    found = settings_of(tmp_path)
    expected = {
        "tweaks": ["soft_activations", "distillation"],
        "alpha": 1.0,
        "temperature": 3.0,
        "activation": "gelu",
        "annealed": 1.0,
        "control": "shuffled_masks",
        "learning_rate": 0.01,
        "epochs": 1,
        "batch_size": 400,
        "seed": 4,
    }
    assert {name: found[name] for name in expected} == expected
    control = tfl.Ticket.load(tmp_path / "ticket.npz")
    assert 0.2 < control.overlap(tfl.Ticket.load(runs / "imp" / "ticket.npz")) < 0.5


def test_images_are_those_of_the_run(command, runs, tmp_path):
    shutil.copy(runs / "imp" / "ticket.npz", tmp_path)
    settings = settings_of(runs / "imp")
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "normalize": True}))
    arguments = ("retrain", tmp_path / "ticket.npz", "--tweaks", "none", *QUICK)
    code, out, err = command(*arguments, "--augment", "shift", "--out", tmp_path / "a")
    assert (code, err) == (0, "")
    assert ": dataset digits, model lenet-300-100, normalize True\n" in out
    found = settings_of(tmp_path / "a")
    assert (found["normalize"], found["augment"]) == (True, ["shift"])


def test_explicit_options_win(command, runs, tmp_path, monkeypatch):
    # A ticket of `tf-lottery demo`, whose settings do not name a model.
    ticket = tfl.Ticket.load(runs / "imp" / "ticket.npz")
    assert ticket.provenance["model"] == "lenet_300_100"
    ticket.save(tmp_path / "ticket.npz")
    (tmp_path / "settings.json").write_text('{"dataset": "mnist", "levels": 3}')
    monkeypatch.chdir(tmp_path)
    arguments = ("retrain", "ticket.npz", "--tweaks", "none", *QUICK, "--dataset", "digits")
    code, out, err = command(*arguments, "--out", "a")
    assert (code, err) == (0, "")
    assert "From ticket.npz: model lenet-300-100\n" in out
    assert "mnist" not in out and "settings.json" not in out
    assert "Plain retraining, 2 steps\n" in out
    found = settings_of(tmp_path / "a")
    assert (found["dataset"], found["model"]) == ("digits", "lenet-300-100")
    code, out, err = command(*arguments, "--model", "lenet-5", "--out", "b")
    assert code == 2 and "'lenet-5' needs images of at least 16x16" in err
    assert "From" not in out and not (tmp_path / "b").exists()


def test_settings_of_the_folder_above_count_for_a_search_alone(refused, runs, tmp_path):
    ticket = tfl.Ticket.load(runs / "imp" / "ticket.npz")
    (tmp_path / "settings.json").write_text('{"dataset": "digits", "model": "lenet-300-100"}')
    (tmp_path / "other").mkdir()
    ticket.save(tmp_path / "other" / "ticket.npz")
    line = refused("retrain", tmp_path / "other" / "ticket.npz", "--out", tmp_path / "run")
    assert "--dataset must be given, since no settings.json beside TICKET names one" in line


def test_ticket_that_names_no_network(refused, runs, tmp_path):
    ticket = tfl.Ticket.load(runs / "imp" / "ticket.npz")
    tfl.Ticket(ticket.masks, ticket.weights).save(tmp_path / "ticket.npz")
    line = refused("retrain", tmp_path / "ticket.npz", "--dataset", "digits", "--out", tmp_path)
    assert "--out must be another folder" in line
    out = ("--out", tmp_path / "run")
    line = refused("retrain", tmp_path / "ticket.npz", "--dataset", "digits", *out)
    assert "--model must be given" in line


def test_interrupted(command, runs, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(retraining, "run_retraining", interrupt)
    code, _, err = command("retrain", runs / "imp" / "ticket.npz", "--out", tmp_path / "run")
    assert code == 130
    assert err == "tf-lottery: interrupted (the same command goes on from the last epoch)\n"


@pytest.mark.thorough("that the experiment goes on is tested without the command")
def test_interrupted_retraining_goes_on(command, runs, tmp_path, monkeypatch):
    arguments = ("retrain", runs / "imp" / "ticket.npz", "--tweaks", "soft-activation")
    arguments = (*arguments, "--epochs", 2, "--batch-size", 400)
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
    a, b = (keras.saving.load_model(tmp_path / name / "model.keras") for name in "ab")
    for expected, found in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, found)


def test_other_arguments_in_the_same_folder(command, refused, runs, tmp_path):
    arguments = ("retrain", runs / "imp" / "ticket.npz", *QUICK, "--out", tmp_path)
    assert command(*arguments, "--tweaks", "none")[0] == 0
    code, _, err = command(*arguments, "--tweaks", "label-smoothing")
    assert code == 2 and "--fresh" in err and "tweaks=[] instead of ['label_smoothing']" in err
    assert command(*arguments, "--tweaks", "label-smoothing", "--fresh")[0] == 0
    assert settings_of(tmp_path)["tweaks"] == ["label_smoothing"]


@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
def test_folder_of_the_ticket(refused, runs, contents, fresh, tmp_path):
    before = contents(runs)
    search = runs / "imp" / "search" / "ticket_01.npz"
    line = refused("retrain", search, "--out", runs / "imp", *fresh)
    assert "--out must be another folder than that of TICKET, whose files" in line
    tfl.Ticket.load(search).save(tmp_path / "ticket.npz")
    teacher = ("--teacher", runs / "dense" / "model.keras")
    line = refused("retrain", tmp_path / "ticket.npz", *teacher, "--out", runs / "dense", *fresh)
    assert "--out must be another folder than that of --teacher" in line
    assert contents(runs) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "required: TICKET"),
        ("t.npz --tweaks soft", "must be all, none, or names separated by commas of soft-act"),
        ("t.npz --tweaks all,distill", "Received: 'all,distill'"),
        ("t.npz --tweaks distill,", "Received: 'distill,'"),
        ("t.npz --tweaks soft_activations", "Received: 'soft_activations'"),
        ("t.npz --control ticket", "--control: invalid choice: 'ticket'"),
        (
            "t.npz --tweaks distill",
            "--tweaks distill needs --teacher, a dense network: `tf-lottery ",
        ),
        ("t.npz --tweaks none --teacher m.keras", "--teacher is an option of --tweaks distill. R"),
        ("t.npz --alpha 0.5", "Received: --tweaks all without --teacher"),
        (
            "t.npz --tweaks ghost-skips --activation mish",
            "is an option of --tweaks soft-activation",
        ),
        (
            "t.npz --tweaks label-smoothing,rescaled-init --annealed 0.5",
            "--annealed is an option of --tweaks soft-activation, ghost-skips. "
            "Received: --tweaks label-smoothing,rescaled-init",
        ),
        ("t.npz --annealed 0", "must be a number above 0 and at most 1. Received: '0'"),
        ("t.npz --alpha 1.5", "must be a number above 0 and at most 1. Received: '1.5'"),
        ("t.npz --temperature 0", "must be a number above 0"),
        ("t.npz --activation relu", "--activation: invalid choice: 'relu'"),
        ("t.npz --epochs 0", "--epochs: must be an integer >= 1"),
    ],
)
def test_wrong_arguments(refused, empty_files, arguments, words):
    empty_files("t.npz", "m.keras")
    assert words in refused("retrain", *arguments.split())


def test_files_of_another_kind(refused, files, runs, tmp_path):
    out = ("--out", tmp_path / "run")
    assert "TICKET must be a ticket of tf_lottery" in refused("retrain", files["plain"], *out)
    ticket = runs / "imp" / "ticket.npz"
    assert "must be a .keras model" in refused("retrain", ticket, "--teacher", ticket, *out)
    assert not (tmp_path / "run").exists()


def test_teacher_of_other_outputs(command, files, runs, tmp_path):
    arguments = ("retrain", runs / "imp" / "ticket.npz", "--tweaks", "distill", *QUICK)
    arguments = (*arguments, "--teacher", files["plain"], "--out", tmp_path / "run")
    code, _, err = command(*arguments)
    assert code == 2 and "`teacher` must have the outputs of the student" in err
    assert not (tmp_path / "run").exists()


def test_ticket_of_another_network(command, tmp_path):
    digits = data.load("digits")
    sparse = tfl.sparsify(networks.build("conv-4-small", digits, seed=0), 0.5)
    tfl.Ticket.from_model(sparse).save(tmp_path / "ticket.npz")
    arguments = ("retrain", tmp_path / "ticket.npz", "--dataset", "digits")
    code, _, err = command(*arguments, "--model", "conv-4", "--out", tmp_path / "run")
    assert code == 2 and "`ticket` must be one of the network 'conv_4'" in err
    code, _, err = command(*arguments, "--model", "lenet-300-100", "--out", tmp_path / "run")
    assert code == 2 and "ticket" in err
    assert not (tmp_path / "run").exists()
