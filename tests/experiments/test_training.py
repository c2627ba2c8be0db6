import dataclasses

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery import files
from tf_lottery.experiments import data, training

GMP = training.TrainSettings(method="gmp", sparsity=0.8, epochs=3, batch_size=100)
IMP = training.TrainSettings(
    method="imp", sparsity=0.75, epochs=2, levels=2, rewind_to_step=5, batch_size=100
)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module", params=[GMP, IMP], ids=["gmp", "imp"])
def run(request, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.method)
    return request.param, folder, training.run_training(digits, request.param, folder, verbose=0)


def arrays(folder):
    ticket = tfl.Ticket.load(folder / "ticket.npz")
    model = keras.saving.load_model(folder / "model.keras")
    return [*ticket.masks.values(), *ticket.weights.values(), *map(np.asarray, model.weights)]


def test_results(run, digits):
    settings, folder, results = run
    model = keras.saving.load_model(folder / "model.keras")
    assert type(model) is keras.Sequential
    assert results["density"] == pytest.approx(1 - settings.sparsity, abs=1e-5)
    assert tfl.summary(model).density == pytest.approx(results["density"], abs=1e-4)
    predicted = np.argmax(model.predict(digits.test[0], verbose=0), axis=-1)
    assert results["test_accuracy"] == pytest.approx(np.mean(predicted == digits.test[1]), abs=1e-6)
    ticket = tfl.Ticket.load(folder / "ticket.npz")
    assert ticket.density == results["density"]
    assert ticket.level == (2 if settings.method == "imp" else 0)


def test_second_call_returns_the_results(run, digits):
    settings, folder, results = run
    assert training.run_training(digits, settings, folder, verbose=0) == results


def test_a_killed_training_goes_on_to_the_same_weights(run, digits, tmp_path, monkeypatch):
    settings, folder, results = run
    save, saves = files.save_arrays, []

    def save_and_die(path, kind, *args):
        save(path, kind, *args)
        saves.append(kind)
        if saves.count("checkpoint") == 2 or saves.count("search") == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "save_arrays", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        training.run_training(digits, settings, tmp_path, verbose=0)
    monkeypatch.undo()
    assert not (tmp_path / "model.keras").exists()
    assert training.run_training(digits, settings, tmp_path, verbose=0) == results
    for expected, found in zip(arrays(folder), arrays(tmp_path), strict=True):
        np.testing.assert_array_equal(expected, found)


def test_folder_of_another_run(run, digits):
    settings, folder, _ = run
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="seed=0 instead of 1"):
        training.run_training(digits, settings, folder, seed=1, verbose=0)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_remove_training(digits, tmp_path):
    settings = dataclasses.replace(GMP, epochs=1)
    training.run_training(digits, settings, tmp_path, verbose=0)
    (tmp_path / "notes.txt").write_text("mine")
    training.remove_training(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_resnet(digits, tmp_path):
    few = tuple(array[:64] for array in digits.train)
    small = data.Data("digits", few, few, few)
    settings = training.TrainSettings("gmp", "resnet-20", 0.5, epochs=1, batch_size=16)
    assert training.run_training(small, settings, tmp_path, verbose=0)["density"] == 0.5


@pytest.mark.parametrize(
    ("sparsity", "rate", "levels"),
    [(0.9, 0.2, 11), (0.2, 0.2, 1), (0.36, 0.2, 2), (0.361, 0.2, 3), (0.1, 0.5, 1)],
)
def test_levels_for(sparsity, rate, levels):
    assert training.levels_for(sparsity, rate) == levels
    settings = training.TrainSettings(sparsity=sparsity, levels=levels)
    assert (1 - settings.rate) ** levels == pytest.approx(1 - sparsity)
    assert settings.rate <= rate + 1e-9


@pytest.mark.parametrize(
    ("argument", "value"),
    [("method", "ipm"), ("model", "lenet"), ("sparsity", 1.0), ("sparsity", 0.0)],
)
def test_settings_out_of_range(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be .* Received: {argument}={value!r}"):
        training.TrainSettings(**{argument: value})


def test_rewind_step_beyond_the_first_level_leaves_no_folder(digits, tmp_path):
    settings = dataclasses.replace(IMP, rewind_to_step=10_000)
    with pytest.raises(ValueError, match="`rewind_to_step` .* 22 steps. Received: .*=10000"):
        training.run_training(digits, settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()
