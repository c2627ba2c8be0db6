import json
import sys

import pytest

import tf_lottery as tfl
from tf_lottery.experiments import checkpoint, data, networks, stability
from tf_lottery_cli import parser as options
from tf_lottery_cli.stability import names_of

STEPS = ("--steps-per-epoch", 3, "--batch-size", 200, "--points", 3)
SHORT, LONGER = ("--epochs", 1, *STEPS), ("--epochs", 2, *STEPS)


@pytest.fixture
def ticket(size, tmp_path):
    model = tfl.sparsify(networks.build("lenet-300-100", data.load("digits"), 1), sparsity=0.75)
    tfl.Ticket.from_model(model).save(tmp_path / "ticket_06.npz")
    return tmp_path / "ticket_06.npz"


def test_help_teaches(command):
    code, out, err = command("stability", "-h")
    assert (code, err) == (0, "")
    assert "Use it on tickets" in out and "\n  tf-lottery stability" in out
    assert "\n    stability" in command("-h")[1]


def test_choices_are_the_library_s():
    assert stability.STARTS == options.STARTS


def test_tickets_and_dense_networks(command, ticket, tmp_path, contents):
    arguments = ("stability", ticket, "--dense", "independent", *SHORT, "--out", tmp_path / "run")
    code, out, err = command(*arguments)
    assert (code, err) == (0, "")
    results = json.loads((tmp_path / "run" / "stability.json").read_text())
    assert list(results) == ["dense_independent", "ticket_06"]
    assert results["ticket_06"]["density"] == pytest.approx(0.25, abs=1e-4)
    assert "25.00%" in out and f"{results['ticket_06']['barrier_error']:.2%}" in out
    assert (tmp_path / "run" / "stability.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "run" / "ticket_06" / "results.json").exists()
    before = contents(tmp_path / "run")
    code, again, _ = command(*arguments)
    assert code == 0 and "Epoch" not in again
    after = contents(tmp_path / "run")
    assert {p: c for p, c in after.items() if p.suffix != ".png"} == {
        p: c for p, c in before.items() if p.suffix != ".png"
    }
    code, out, err = command(*arguments, "--seed", 1)
    assert code == 2 and "Run in" in out and err.count("\n") == 1
    assert "--fresh" in err and "seed=0 instead of 1" in err
    (tmp_path / "run" / "ticket_06" / "notes.txt").write_text("mine")
    assert command(*arguments, "--seed", 1, "--fresh")[0] == 0
    settings = json.loads((tmp_path / "run" / "ticket_06" / "settings.json").read_text())
    assert settings["seed"] == 1
    assert (tmp_path / "run" / "ticket_06" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "size",
    [
        "compiled",
        pytest.param("full", marks=pytest.mark.thorough("compiles LeNet-300-100 in every run")),
    ],
    indirect=True,
)
def test_without_tickets_both_dense_networks(command, size, tmp_path):
    code, out, _ = command("stability", *SHORT, "--rewind-to-step", 2, "--out", tmp_path)
    assert code == 0
    results = json.loads((tmp_path / "stability.json").read_text())
    assert list(results) == ["dense_shared", "dense_independent"]
    assert results["dense_shared"]["settings"]["rewind_to_step"] == 2
    assert "100.00%" in out


def test_without_a_plot(command, tmp_path, monkeypatch):
    found = {"density": 1.0, "alphas": [0.0, 1.0], "losses": [0.5, 0.5], "errors": [0.1, 0.3]}
    monkeypatch.setattr(stability, "run_stability", lambda *_: found)
    monkeypatch.setitem(sys.modules, "tf_lottery.analysis.connectivity_plots", None)
    code, out, err = command("stability", "--dense", "shared", "--out", tmp_path, "--json")
    assert code == 0 and json.loads(out) == {"dense_shared": found}
    assert "tf-lottery stability: no stability.png: import of" in err


def test_interrupted(command, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(stability, "run_stability", interrupt)
    code, _, err = command("stability", "--out", tmp_path / "run")
    assert code == 130
    assert err == "tf-lottery: interrupted (the same command goes on from the last epoch)\n"


@pytest.mark.thorough("that the experiment goes on is tested without the command")
def test_interrupted_run_goes_on(command, ticket, tmp_path, monkeypatch):
    assert command("stability", ticket, *LONGER, "--out", tmp_path / "a")[0] == 0
    on_epoch_begin = checkpoint.Checkpoint.on_epoch_begin

    def interrupt(self, epoch, logs=None):
        on_epoch_begin(self, epoch, logs)
        if epoch == 1 and "copy_1" in str(self.path):
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoint, "on_epoch_begin", interrupt)
    code, _, err = command("stability", ticket, *LONGER, "--out", tmp_path / "b")
    assert code == 130
    assert err == "tf-lottery: interrupted (the same command goes on from the last epoch)\n"
    monkeypatch.undo()
    code, out, _ = command("stability", ticket, *LONGER, "--out", tmp_path / "b")
    assert code == 0 and "Epoch 1/2" not in out
    a, b = (json.loads((tmp_path / name / "stability.json").read_text()) for name in "ab")
    assert a == b


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--dense sharde", "--dense: invalid choice: 'sharde'"),
        ("--points 1", "--points: must be an integer >= 2. Received: '1'"),
        ("--epochs 0", "--epochs: must be an integer >= 1"),
        ("--learning-rate 0", "must be a number above 0. Received: '0'"),
        ("--rewind-to-step -1", "--rewind-to-step: must be an integer >= 0"),
        ("--model lenet", "--model: invalid choice: 'lenet'"),
        ("--dataset minst", "--dataset: invalid choice: 'minst'"),
        ("ticket.npz --rewind-to-step 5", "--rewind-to-step must come with --dense"),
    ],
)
def test_wrong_arguments(refused, empty_files, arguments, words):
    empty_files("ticket.npz")
    assert words in refused("stability", *arguments.split())


def test_names_of_folders(refused, empty_files):
    paths = ["a/t.npz", "b/t.npz", "b/u.npz", "b/u.npz"]
    expected = {"a_t": "a/t.npz", "b_t": "b/t.npz", "u": "b/u.npz"}
    assert {n: str(path) for n, path in names_of(paths).items()} == expected
    for paths in (("a/t.npz", "c/a/t.npz"), ("dense_shared.npz",)):
        empty_files(*paths)
        assert "different names" in refused("stability", *paths)


def test_files_that_are_no_tickets(refused, files, tmp_path):
    line = refused("stability", files["plain"], "--out", tmp_path / "run")
    assert "must be a ticket file" in line and str(files["plain"]) in line
    assert not (tmp_path / "run").exists()
