import dataclasses
import json
import random

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks.search_state import SearchState
from tf_lottery.experiments import lottery

SETTINGS = lottery.LotterySettings(
    levels=2,
    epochs_per_level=2,
    steps_per_epoch=4,
    batch_size=20,
    frequency=4,
    jit_compile=keras.backend.backend() == "jax",
)

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def settings(mode):
    # Keras runs several steps per call only in compiled functions.
    return dataclasses.replace(SETTINGS, steps_per_execution=2 if mode == "compiled" else 1)


@pytest.fixture(scope="module")
def run(small_networks, digits, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lottery")
    return folder, lottery.run_lottery(digits, settings, folder)


def test_rows(run):
    rows = run[1]
    assert [(row["kind"], row["level"]) for row in rows] == [
        ("ticket", 0),
        ("ticket", 1),
        ("ticket", 2),
        ("reinitialized", 1),
        ("reinitialized", 2),
    ]
    # Each level prunes 20% of the hidden layers' weights and 10% of the output layer's.
    kept = [(1, 1), (0.8, 0.9), (0.64, 0.81), (0.8, 0.9), (0.64, 0.81)]
    for row, (hidden, output) in zip(rows, kept, strict=True):
        assert row["density"] == pytest.approx((1280 * hidden + 200 * output) / 1480, 1e-3)
        assert 0 < row["iteration"] <= 8
        assert 0 < row["loss"] < 3
        assert 0 <= row["test_accuracy"] <= 1


def test_trained_networks_are_plain_keras_models_with_the_rows_accuracy(run, digits):
    folder, rows = run
    for row in rows[:3]:
        model = keras.saving.load_model(folder / f"trained_{row['level']:02d}.keras")
        assert type(model) is keras.Sequential
        predicted = np.argmax(model.predict(digits.test[0], verbose=0), axis=-1)
        accuracy = np.mean(predicted == digits.test[1])
        assert accuracy == pytest.approx(row["test_accuracy"], abs=1e-6)
        assert tfl.summary(model).density == pytest.approx(row["density"], abs=1e-4)


def test_tickets_start_from_the_initial_weights(run, digits, settings):
    model = lottery.build_model(digits, settings, seed=0)
    ticket = tfl.Ticket.load(run[0] / "ticket_02.npz")
    for name, kernel in model.kernels.items():
        np.testing.assert_array_equal(ticket.weights[name], kernel)


@pytest.mark.thorough("a killed search goes on in another random state too")
def test_same_seed_same_rows_whatever_the_global_random_state(run, digits, settings, tmp_path):
    random.seed(5)
    keras.utils.set_random_seed(5)
    assert lottery.run_lottery(digits, settings, tmp_path) == run[1]


def test_second_call_trains_nothing(run, digits, settings):
    trained = []
    rows = lottery.run_lottery(digits, settings, run[0], on_row=trained.append)
    assert rows == run[1]
    assert trained == []


@pytest.mark.parametrize(
    "num_saves",
    [pytest.param(1, marks=pytest.mark.thorough("a later epoch stands for the first")), 3],
)
def test_a_killed_search_goes_on_to_the_same_rows(
    run, digits, settings, tmp_path, monkeypatch, num_saves
):
    save, saves = SearchState.save, []

    def save_and_die(self, *args):
        save(self, *args)
        saves.append(1)
        if len(saves) == num_saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(SearchState, "save", save_and_die)
    keras.utils.set_random_seed(5)
    with pytest.raises(KeyboardInterrupt):
        lottery.run_lottery(digits, settings, tmp_path)
    monkeypatch.undo()
    keras.utils.set_random_seed(6)
    trained = []
    assert lottery.run_lottery(digits, settings, tmp_path, on_row=trained.append) == run[1]
    assert trained == [row for row in run[1] if row in trained]
    assert run[1][0] not in trained or num_saves == 1


def test_control_levels(digits, settings, tmp_path, run):
    settings = dataclasses.replace(settings, control_levels=(2,))
    rows = lottery.run_lottery(digits, settings, tmp_path)
    assert rows == [row for row in run[1] if (row["kind"], row["level"]) != ("reinitialized", 1)]


def test_controls_differ_from_tickets(run):
    losses = {(row["kind"], row["level"]): row["loss"] for row in run[1]}
    assert losses["ticket", 1] != losses["reinitialized", 1]


def test_folder_of_another_run(run, digits, settings):
    before = {path: path.read_bytes() for path in run[0].iterdir()}
    with pytest.raises(ValueError, match="`directory`.* new folder.*seed=0 instead of 1"):
        lottery.run_lottery(digits, settings, run[0], seed=1)
    assert {path: path.read_bytes() for path in run[0].iterdir()} == before


def test_settings_are_kept_beside_the_results(run):
    settings = json.loads((run[0] / "settings.json").read_text())
    assert settings["dataset"] == "digits"
    assert settings["levels"] == 2


def test_verbose_announces_levels(digits, settings, tmp_path, capsys):
    settings = dataclasses.replace(settings, levels=1, epochs_per_level=1)
    lottery.run_lottery(digits, settings, tmp_path, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("Level")] == [
        "Level 0/1: density 100.00%, 1 epochs from step 0",
        "Level 1/1: density 81.35%, 1 epochs from step 0",
        "Level 1: density 81.35%, reinitialized",
    ]
