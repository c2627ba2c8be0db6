import dataclasses

import keras
import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery import files
from tf_lottery.calibration.batch_statistics import BatchStatistics
from tf_lottery.experiments import networks, run_folder, stability
from tf_lottery.experiments.stability import StabilitySettings, read_connectivity, run_stability

SETTINGS = StabilitySettings(
    epochs=2, steps_per_epoch=3, batch_size=20, learning_rate=0.02, points=3
)
CASES = {
    "dense": (SETTINGS, False),
    "later": (dataclasses.replace(SETTINGS, rewind_to_step=2), False),
    "independent": (dataclasses.replace(SETTINGS, start="independent"), False),
    "ticket": (SETTINGS, True),
    "masks": (dataclasses.replace(SETTINGS, start="independent"), True),
}

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def ticket(small_networks, digits):
    model = tfl.sparsify(networks.build("lenet-300-100", digits, 9), sparsity=0.8)
    return tfl.Ticket.from_model(model, provenance={"step": 3})


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("dense", marks=pytest.mark.thorough("the next two are dense, too")),
        "later",
        "independent",
        "ticket",
        pytest.param("masks", marks=pytest.mark.thorough("is independent, and has a ticket")),
    ],
)
def run(request, mode, digits, ticket, tmp_path_factory):
    settings, has_ticket = CASES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    arguments = {"ticket": ticket} if has_ticket else {}
    found = run_stability(digits, settings, folder, verbose=0, **arguments)
    return request.param, settings, arguments, folder, found


def copies(folder):
    found = [files.load_arrays(folder / f"copy_{i}.npz", "checkpoint")[0] for i in range(2)]
    return [{n: a for n, a in copy.items() if n.startswith("weights/")} for copy in found]


def test_results(run, digits):
    name, settings, arguments, folder, found = run
    assert found["density"] == pytest.approx(0.2 if "ticket" in arguments else 1.0, abs=1e-4)
    assert found["alphas"] == [0.0, 0.5, 1.0]
    assert found["settings"]["start"] == settings.start
    assert set(found["settings"]) >= {"dataset", "seed", "ticket", "epochs", "rewind_to_step"}
    model = networks.build("lenet-300-100", digits, 0)
    for index, copy in enumerate(copies(folder)):
        model.set_weights(list(copy.values()))
        right = model.predict(digits.test[0], verbose=0).argmax(axis=1) == digits.test[1]
        assert found["errors"][2 - 2 * index] == pytest.approx(1 - right.mean(), abs=1e-6)
    assert read_connectivity(found).barrier_error == found["barrier_error"]


def test_copies_start_together_or_apart(run):
    name, settings, arguments, folder, _ = run
    first, second = (copy["weights/0"].reshape(-1) for copy in copies(folder))
    kept = first != 0
    assert kept.mean() == pytest.approx(0.2 if "ticket" in arguments else 1.0, abs=0.05)
    # After six steps, copies with the same initial weights are still similar.
    similarity = np.corrcoef(first[kept], second[kept])[0, 1]
    assert (similarity > 0.5) == (settings.start == "shared")
    assert similarity < 0.9999


def test_second_call_returns_the_results(run, digits):
    _, settings, arguments, folder, found = run
    assert run_stability(digits, settings, folder, verbose=0, **arguments) == found


@pytest.mark.parametrize(
    ("run", "saves"),
    [
        # Killed while training the second copy; the initial weights of both are in a file.
        ("later", 3),
        *(
            pytest.param(*case, marks=pytest.mark.thorough("others stand for these epochs"))
            for case in (
                ("later", 1),
                ("later", 2),
                ("later", 4),
                ("ticket", 1),
                ("ticket", 2),
                ("ticket", 4),
            )
        ),
    ],
    indirect=["run"],
)
def test_a_killed_run_goes_on_to_the_same_result(run, digits, tmp_path, monkeypatch, saves):
    _, settings, arguments, folder, found = run
    save, saved = files.save_arrays, []

    def save_and_die(path, kind, *args):
        save(path, kind, *args)
        saved.append(kind)
        if saved.count("checkpoint") == saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "save_arrays", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run_stability(digits, settings, tmp_path, verbose=0, **arguments)
    monkeypatch.undo()
    assert not (tmp_path / "results.json").exists()
    assert run_stability(digits, settings, tmp_path, verbose=0, **arguments) == found
    for one, other in zip(copies(folder), copies(tmp_path), strict=True):
        for key, value in one.items():
            np.testing.assert_array_equal(value, other[key])


def test_folder_of_another_run(run, digits, ticket):
    name, settings, arguments, folder, _ = run
    with pytest.raises(ValueError, match="seed=0 instead of 1"):
        run_stability(digits, settings, folder, seed=1, verbose=0, **arguments)
    if "ticket" in arguments:
        other = dataclasses.replace(
            ticket, masks={path: ~mask for path, mask in ticket.masks.items()}
        )
        with pytest.raises(ValueError, match="ticket='.*' instead of '"):
            run_stability(digits, settings, folder, verbose=0, ticket=other)


def test_remove_stability(run, digits, tmp_path):
    name, settings, arguments, folder, _ = run
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert (tmp_path / "start_0.npz").exists() == (name == "later")
    (tmp_path / "notes.txt").write_text("mine")
    stability.remove_stability(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.usefixtures("mode")
def test_batch_normalization(digits, tmp_path, monkeypatch):
    def normalized(input_shape, num_classes, seed):
        layers = keras.layers.Flatten(), keras.layers.BatchNormalization()
        return keras.Sequential([keras.Input(input_shape), *layers, keras.layers.Dense(10)])

    monkeypatch.setitem(networks.MODELS, "lenet-300-100", normalized)
    statistics = []
    update = BatchStatistics.update

    def spy(self, batches):
        update(self, batches)
        statistics.append(np.array(self.layers[0].moving_mean))

    monkeypatch.setattr(BatchStatistics, "update", spy)
    monkeypatch.setattr(stability, "_STATISTICS_STEPS", 10)
    run_stability(digits, SETTINGS, tmp_path, verbose=0)
    # The inputs do not depend on the weights. Ten batches are all training images twice,
    # the same at every point.
    assert len(statistics) == 3
    np.testing.assert_array_equal(statistics[0], statistics[2])
    expected = digits.train[0].reshape(-1, 64).mean(axis=0)
    np.testing.assert_allclose(statistics[0], expected, atol=0.02)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("model", "lenet"),
        ("start", "together"),
        ("epochs", 0),
        ("points", 1),
        ("rewind_to_step", -1),
    ],
)
def test_settings_out_of_range(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be .* Received: {argument}={value!r}"):
        StabilitySettings(**{argument: value})


def test_what_does_not_fit_leaves_no_folder(digits, ticket, tmp_path):
    out = tmp_path / "run"
    later = dataclasses.replace(SETTINGS, rewind_to_step=5)
    with pytest.raises(ValueError, match="`rewind_to_step` must be 0 with a ticket.*=5"):
        run_stability(digits, later, out, ticket=ticket)
    masks = dict(list(ticket.masks.items())[:1])
    with pytest.raises(ValueError, match="`ticket` must be one of the model 'lenet-300-100'"):
        run_stability(digits, SETTINGS, out, ticket=dataclasses.replace(ticket, masks=masks))
    other = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="must share a kernel"):
        run_stability(digits, SETTINGS, out, ticket=tfl.Ticket.from_model(tfl.sparsify(other)))
    with pytest.raises(ValueError, match="`model` must fit the data"):
        run_stability(digits, dataclasses.replace(SETTINGS, model="gru"), out)
    with pytest.raises(ValueError, match="`batch_size` must be between"):
        run_stability(digits, dataclasses.replace(SETTINGS, batch_size=9999), out)
    assert not out.exists()


@pytest.mark.filterwarnings("ignore:Training failed")
@pytest.mark.usefixtures("mode")
def test_a_start_that_fails_is_not_kept(digits, tmp_path):
    settings, _ = CASES["later"]
    wrong = dataclasses.replace(settings, learning_rate=1e30)
    with pytest.raises(ValueError, match="Training failed.*goes on"):
        run_stability(digits, wrong, tmp_path / "failed", verbose=0)
    assert not [*(tmp_path / "failed").glob("start_*")]
    found = run_stability(digits, settings, tmp_path / "failed", verbose=0)
    whole = run_stability(digits, settings, tmp_path / "whole", verbose=0)
    assert found["losses"] == whole["losses"] and found["failures"][0]["learning_rate"] == 1e30


@pytest.mark.usefixtures("mode")
def test_copies_go_on_with_another_learning_rate(digits, tmp_path):
    settings, _ = CASES["later"]
    run_stability(digits, settings, tmp_path, verbose=0)
    for name in ("results.json", "copy_0.npz", "copy_1.npz"):
        (tmp_path / name).unlink()
    run_folder.write_json(tmp_path / "failures.json", {"failures": [{"learning_rate": 0.02}]})
    other = dataclasses.replace(settings, learning_rate=0.01)
    run_stability(digits, other, tmp_path, verbose=0)
    progress = files.load_metadata(tmp_path / "copy_0.npz", "checkpoint")
    assert progress["learning_rates"] == pytest.approx([0.01])
