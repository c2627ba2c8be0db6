import dataclasses
import json
import pathlib
import sys

import numpy as np
import pytest

from tf_lottery.experiments.training import TrainSettings
from tf_lottery.ticket import Ticket

NAMES = ("dynamic_mnist", "dynamic_cifar10_without_norms", "dynamic_shakespeare")


@pytest.fixture
def comparison(monkeypatch, tmp_path):
    """The module, changed so that it does not train and writes results into a temporary folder."""
    import comparison

    def train(arrays, settings, directory, seed, verbose):
        trained.append((settings, pathlib.Path(directory).name, seed))
        accuracy = 0.9 + 0.01 * seed
        found = {
            "settings": {"seed": seed, **settings.to_dict()},
            "density": 0.1,
            "epochs": 1,
            "test_accuracy": accuracy,
            "test_loss": 1.0,
            "history": {},
        }
        directory.mkdir()
        masks = {"net/hidden/kernel": np.array([[True, False, False]])}
        Ticket(masks, {}).save(directory / "ticket.npz")
        (directory / "results.json").write_text(json.dumps(found))
        return found

    trained = comparison.trained = []
    monkeypatch.setattr(comparison, "run_training", train)
    monkeypatch.setattr(comparison.data, "load", lambda name, data_dir: name)
    monkeypatch.setattr(comparison.record, "RESULTS", tmp_path)
    return comparison


def test_summary_has_mean_and_deviation(comparison):
    rows = [
        {"method": "rigl", "sparsity": 0.9, "length": 1, "seed": seed, "test_accuracy": accuracy}
        for seed, accuracy in enumerate((0.5, 0.6, 0.7))
    ]
    rows.append({**rows[0], "length": 2, "test_accuracy": 0.8})
    first, second = comparison.summarize(rows)
    assert (first["method"], first["sparsity"], first["length"], first["seeds"]) == (
        "rigl",
        0.9,
        1,
        3,
    )
    assert first["test_accuracy"] == pytest.approx({"mean": 0.6, "std": 0.1})
    assert (second["length"], second["seeds"]) == (2, 1)
    assert second["test_accuracy"] == {"mean": 0.8, "std": None}


def test_results_are_recorded_after_every_training(comparison, monkeypatch, tmp_path):
    def make_settings(case, steps):
        return TrainSettings(case.method, None, case.sparsity, steps_per_epoch=steps)

    def load(path):
        loaded.append(path)
        return read_ticket(path)

    cases = [comparison.Case("dense"), comparison.Case("rigl", 0.9, length=2)]
    found, loaded, read_ticket = [], [], Ticket.load
    monkeypatch.setattr(comparison.Ticket, "load", load)
    monkeypatch.setattr(sys, "argv", ["dynamic", "--seeds", "2"])
    comparison.run_benchmark(
        "test", "digits", cases, make_settings, 30, lambda *args: found.append(args)
    )
    assert [(s.method, s.steps_per_epoch, *rest) for s, *rest in comparison.trained] == [
        ("dense", 30, "dense_1x_seed_0", 0),
        ("rigl", 60, "rigl_0.9_2x_seed_0", 0),
        ("dense", 30, "dense_1x_seed_1", 1),
        ("rigl", 60, "rigl_0.9_2x_seed_1", 1),
    ]
    recorded = json.loads((tmp_path / "test.json").read_text())
    assert [len(summary) for summary, _ in found] == [1, 2, 2, 2]
    assert len(loaded) == 4
    assert found[-1] == (recorded["results"]["summary"], tmp_path / "test.png")
    assert [row["seed"] for row in recorded["results"]["rows"]] == [0, 0, 1, 1]
    assert recorded["results"]["rows"][0]["kernels"] == {"net/hidden/kernel": [3, 1]}
    assert recorded["settings"]["cases"]["rigl_0.9_2x"]["drop_fraction"] == 0.3


def settings_of(case, steps):
    return TrainSettings(case.method, None, case.sparsity, steps_per_epoch=steps)


def run(comparison, monkeypatch, cases, *options):
    monkeypatch.setattr(sys, "argv", ["dynamic", *options])
    comparison.run_benchmark("test", "digits", cases, settings_of, 30)
    return [f"{settings.method} {seed}" for settings, _, seed in comparison.trained]


def test_cells_run_in_their_order_and_once(comparison, monkeypatch):
    dense, rigl = comparison.Case("dense"), comparison.Case("rigl", 0.9)
    cells = [(rigl, 1), (dense, 0), (rigl, 0)]
    expected = ["rigl 1", "dense 0", "rigl 0"]
    assert run(comparison, monkeypatch, cells, "--trainings", "2") == expected[:2]
    assert run(comparison, monkeypatch, cells) == expected
    with pytest.raises(SystemExit) as ended:
        run(comparison, monkeypatch, cells, "--trainings", "1")
    assert ended.value.code == comparison.sharing.NOTHING_LEFT


def test_a_cell_of_another_process_is_left_to_it(comparison, monkeypatch, tmp_path):
    cells = [(comparison.Case("dense"), seed) for seed in (0, 1)]
    with comparison.sharing.locked(tmp_path / "runs" / "test" / "dense_1x_seed_0.lock"):
        assert run(comparison, monkeypatch, cells) == ["dense 1"]
    assert run(comparison, monkeypatch, cells) == ["dense 1", "dense 0"]


def test_differences_pair_seeds_and_budgets(comparison):
    def row(method, sparsity, seed, accuracy):
        case = comparison.Case(method, sparsity)
        return {**dataclasses.asdict(case), "seed": seed, "test_accuracy": accuracy}

    rows = [row("static", 0.9, seed, 0.5) for seed in (0, 1, 2)]
    rows += [row("rigl", 0.9, seed, 0.6 + 0.1 * seed) for seed in (0, 1)]
    rows += [row("rigl", 0.98, 0, 0.9)]
    (found,) = comparison.differences(rows)
    assert (found["better"], found["worse"], found["seeds"]) == ("rigl_0.9_1x", "static_0.9_1x", 2)
    # The deviation of 0.1 and 0.2, divided by the root of two.
    assert found["mean"] == pytest.approx(0.15)
    assert found["standard_error"] == pytest.approx(0.05)


def test_cells_of_cifar10(comparison):
    import dynamic_cifar10

    cells = dynamic_cifar10.make_cells()
    assert len({comparison.cell_name(*cell) for cell in cells}) == len(cells) == 123
    assert [(c.method, c.sparsity, seed) for c, seed in cells[:4]] == [
        ("static", 0.98, 0),
        ("set", 0.98, 0),
        ("rigl", 0.98, 0),
        ("static", 0.98, 1),
    ]
    for case, _ in cells:
        settings = dynamic_cifar10.make_settings(case, 50)
        assert (settings.method, settings.sparsity) == (case.method, case.sparsity)
        assert settings.optimizer == case.optimizer


def test_gates_and_magnitude_take_equal_steps_and_rewind_points(comparison):
    import continuous_cifar10

    cells = continuous_cifar10.make_cells()
    assert len({comparison.cell_name(*cell) for cell in cells}) == len(cells) == 45
    for case, _ in cells:
        settings = continuous_cifar10.make_settings(case, 2000)
        assert settings.epochs * settings.steps_per_epoch == 2000
        if case.method != "dense":
            assert settings.rewind_to_step == 100
        trainings = {"cs": 4, "cs_adam": 4, "imp_equal": 1 + (settings.levels or 0)}
        assert trainings.get(case.method, 4) == 4


@pytest.mark.parametrize("name", NAMES)
def test_cases_have_settings_and_names_of_their_own(comparison, name):
    benchmark = __import__(name)
    cases = benchmark.CASES
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        settings = benchmark.make_settings(case, 50)
        assert (settings.method, settings.sparsity) == (case.method, case.sparsity)
        assert (settings.epochs, settings.steps_per_epoch) == (1, 50)
        assert settings.rescale == case.rescale


def test_picture_of_the_lengths(comparison, tmp_path):
    import dynamic_mnist

    summary = [
        {**dataclasses.asdict(case), "test_accuracy": {"mean": 0.9, "std": None}}
        for case in dynamic_mnist.CASES
    ]
    dynamic_mnist.plot_lengths(summary, tmp_path / "lengths.png")
    assert (tmp_path / "lengths.png").read_bytes().startswith(b"\x89PNG")
