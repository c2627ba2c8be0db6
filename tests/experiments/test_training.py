import dataclasses
import shutil

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery import files
from tf_lottery.experiments import data, training

# Five steps per epoch.
GMP = training.TrainSettings(method="gmp", sparsity=0.8, epochs=3, batch_size=20)
RIGL = training.TrainSettings(
    method="rigl", sparsity=0.8, epochs=3, batch_size=20, frequency=2, drop_fraction=0.4
)
IMP = training.TrainSettings(
    method="imp", sparsity=0.75, epochs=2, levels=2, rewind_to_step=6, batch_size=20
)
CS = training.TrainSettings(
    method="cs", epochs=2, rounds=2, target_density=0.25, exact_density=True, batch_size=20
)

pytestmark = pytest.mark.usefixtures("small_networks")
trains = pytest.mark.usefixtures("mode")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(GMP, id="gmp"),
        pytest.param(RIGL, id="rigl", marks=pytest.mark.thorough("one training, as gmp")),
        pytest.param(IMP, id="imp"),
        pytest.param(CS, id="cs"),
    ],
)
def run(request, mode, small_networks, digits, tmp_path_factory):
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
    density = settings.target_density or 1 - settings.sparsity
    assert results["density"] == pytest.approx(density, abs=1e-4)
    assert tfl.summary(model).density == pytest.approx(results["density"], abs=1e-4)
    predicted = np.argmax(model.predict(digits.test[0], verbose=0), axis=-1)
    assert results["test_accuracy"] == pytest.approx(np.mean(predicted == digits.test[1]), abs=1e-6)
    ticket = tfl.Ticket.load(folder / "ticket.npz")
    assert ticket.density == results["density"]
    assert ticket.level == {"imp": 2, "cs": 1}.get(settings.method, 0)
    # Levels after the first begin after its first epoch; the last two epochs of gates retrain.
    assert results["epochs"] == {"imp": 2 + 1 + 1, "cs": 3 * 2}.get(settings.method, 3)
    assert results["steps"] == 5 * results["epochs"] and results["training_flops"] > 0


def test_second_call_returns_the_results(run, digits):
    settings, folder, results = run
    assert training.run_training(digits, settings, folder, verbose=0) == results


@pytest.mark.parametrize(
    "run",
    [
        # One continues from a checkpoint, the other from a search.
        GMP,
        IMP,
        pytest.param(RIGL, marks=pytest.mark.thorough("goes on from a checkpoint, as gmp does")),
        pytest.param(CS, marks=pytest.mark.thorough("goes on from a search, as imp does")),
    ],
    ids=lambda settings: settings.method,
    indirect=True,
)
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


def test_remove_training(run, tmp_path):
    shutil.copytree(run[1], tmp_path, dirs_exist_ok=True)
    (tmp_path / "notes.txt").write_text("mine")
    training.remove_training(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_history(run):
    settings, _, results = run
    history = results["history"]
    if settings.method in training.methods.SEARCHES:
        unit = "level" if settings.method == "imp" else "round"
        assert [level[unit] for level in history] == [0, 1, 2]
        return
    names = {"accuracy", "loss", "val_accuracy", "val_loss", "sparsity"}
    assert set(history) == names | ({"replaced", "explored"} & set(history))
    assert {len(values) for values in history.values()} == {3}
    assert history["sparsity"][-1] == pytest.approx(0.8, abs=1e-4)
    if settings.method == "rigl":
        assert history["replaced"][0] > 0.1
        assert 0.2 < history["explored"][0] < history["explored"][1]


def small_data(name, vocabulary=None):
    rng = np.random.default_rng(0)
    x, y = rng.random((48, 8, 8, 1), dtype="float32"), rng.integers(0, 3, 48).astype("int32")
    if vocabulary:
        x, y = rng.integers(0, len(vocabulary), (2, 48, 6)).astype("int32")
    return data.Data(name, (x, y), (x, y), (x, y), vocabulary)


@trains
@pytest.mark.parametrize("method", training.methods.METHODS)
def test_every_method(method, tmp_path):
    options = {
        "imp": {"levels": 1},
        "cs": {"rounds": 1, "target_density": 0.1, "exact_density": True},
    }.get(method, {})
    settings = training.TrainSettings(method, epochs=1, batch_size=8, **options)
    results = training.run_training(small_data("small"), settings, tmp_path, verbose=0)
    density = 1.0 if method == "dense" else 0.1
    assert results["density"] == pytest.approx(density, abs=1e-3)
    assert results["settings"]["model"] == "lenet-300-100"
    assert set(results["settings"]) >= set(training.methods.OPTIONS[method])
    # Some weights that SET grew are still zero.
    plain = keras.saving.load_model(tmp_path / "model.keras")
    assert tfl.summary(plain).density == pytest.approx(density, abs=5e-3)


def test_settings_hold_what_the_method_uses():
    found = training.TrainSettings("imp", sparsity=0.5).to_dict()
    assert (found["levels"], found["rewind"], found["scope"]) == (4, "weights", "global")
    assert "drop_fraction" not in found and "distribution" not in found
    assert "sparsity" not in training.TrainSettings("dense").to_dict()


@trains
def test_text(tmp_path):
    text = small_data("text", "abcde")
    settings = training.TrainSettings("rigl", sparsity=0.5, epochs=1, batch_size=8)
    results = training.run_training(text, settings, tmp_path, verbose=0)
    assert results["settings"]["model"] == "gru"
    assert results["density"] == pytest.approx(0.5, abs=1e-3)
    logits = keras.saving.load_model(tmp_path / "model.keras").predict(text.test[0], verbose=0)
    assert results["test_accuracy"] == pytest.approx(np.mean(logits.argmax(-1) == text.test[1]))
    logits = logits.astype("float64")
    chosen = np.take_along_axis(logits, text.test[1][..., None], axis=-1)[..., 0]
    bits = (np.log(np.exp(logits).sum(axis=-1)) - chosen) / np.log(2)
    assert results["test_bits_per_character"] == pytest.approx(bits.mean(), rel=1e-5)


@pytest.mark.thorough("compiles a residual network")
def test_resnet(digits, tmp_path):
    few = tuple(array[:64] for array in digits.train)
    small = data.Data("digits", few, few, few)
    settings = training.TrainSettings("gmp", "resnet-20", 0.5, epochs=1, batch_size=16)
    assert training.run_training(small, settings, tmp_path, verbose=0)["density"] == 0.5


@trains
def test_steps_per_epoch(digits, tmp_path):
    settings = dataclasses.replace(RIGL, epochs=1, steps_per_epoch=4)
    training.run_training(digits, settings, tmp_path, verbose=0)
    progress = files.load_arrays(tmp_path / "checkpoint.npz", "checkpoint")[0]
    assert progress["step/0"] == 4


@pytest.mark.parametrize(
    ("sparsity", "rate", "levels"),
    [(0.9, 0.2, 11), (0.2, 0.2, 1), (0.36, 0.2, 2), (0.361, 0.2, 3), (0.1, 0.5, 1)],
)
def test_levels_for(sparsity, rate, levels):
    assert training.methods.levels_for(sparsity, rate) == levels
    settings = training.TrainSettings("imp", sparsity=sparsity, levels=levels)
    assert (1 - settings.rate) ** levels == pytest.approx(1 - sparsity)
    assert settings.rate <= rate + 1e-9


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("method", "ipm"),
        ("model", "lenet"),
        ("sparsity", 1.0),
        ("sparsity", 0.0),
    ],
)
def test_settings_out_of_range(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be .* Received: {argument}={value!r}"):
        training.TrainSettings(**{argument: value})


def test_rewind_step_beyond_the_first_level_leaves_no_folder(digits, tmp_path):
    settings = dataclasses.replace(IMP, rewind_to_step=10_000)
    with pytest.raises(ValueError, match="`rewind_to_step` .* 10 steps. Received: .*=10000"):
        training.run_training(digits, settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("method", "option"),
    [
        ("gmp", {"levels": 3}),
        ("dense", {"sparsity": 0.9}),
        ("static", {"drop_fraction": 0.1}),
        ("imp", {"distribution": "erk"}),
        ("rigl", {"scope": "global"}),
        ("gmp", {"target_density": 0.1}),
        ("cs", {"sparsity": 0.9}),
    ],
)
def test_options_of_other_methods(method, option):
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=f"`{name}` .* '{method}', .* Received: {name}={value!r}"):
        training.TrainSettings(method, **option)


def test_unknown_distribution():
    with pytest.raises(ValueError, match="`distribution` must be one of .*'erk'"):
        training.TrainSettings("rigl", distribution="eerk")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dataclasses.replace(RIGL, model="gru"), "`model` must fit the data"),
        (dataclasses.replace(RIGL, end_step=16), "`end_step` .* has 15 steps. .*=16"),
        (
            dataclasses.replace(RIGL, sparsity=0.5, pattern="2:4", distribution="erk"),
            "`distribution` must leave .* 2:4 or dense.*='erk'",
        ),
        (dataclasses.replace(RIGL, pattern="2:x"), "`pattern` must be"),
        (dataclasses.replace(RIGL, drop_fraction=1.5), "`drop_fraction` must be"),
        (dataclasses.replace(CS, target_density=1.5), "`target_density` must be"),
        (dataclasses.replace(CS, target_density=None), "`exact_density` needs a `target_density`"),
    ],
)
def test_arguments_that_do_not_fit_leave_no_folder(digits, tmp_path, settings, words):
    with pytest.raises(ValueError, match=words):
        training.run_training(digits, settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@trains
def test_pattern_holds_while_connections_move(tmp_path):
    settings = training.TrainSettings("rigl", sparsity=0.5, pattern="2:4", epochs=1, batch_size=8)
    results = training.run_training(small_data("small"), settings, tmp_path, verbose=0)
    assert results["history"]["replaced"][0] > 0
    mask = next(iter(tfl.Ticket.load(tmp_path / "ticket.npz").masks.values()))
    assert (mask.reshape(-1, 4, 20).sum(axis=1) == 2).all()


@trains
@pytest.mark.filterwarnings("ignore:Training failed")
def test_search_that_fails(digits, tmp_path):
    settings = dataclasses.replace(CS, initial_value=-20.0, target_density=None, exact_density=None)
    with pytest.raises(ValueError, match="Training failed: all gates are closed"):
        training.run_training(digits, settings, tmp_path, verbose=0)
    assert not (tmp_path / "results.json").exists()
