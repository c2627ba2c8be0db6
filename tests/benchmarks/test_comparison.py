import json
import pathlib
import sys

import pytest

from tf_lottery.experiments.training import TrainSettings

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
NAMES = ("dynamic_mnist", "dynamic_cifar10", "dynamic_shakespeare")


@pytest.fixture
def comparison(monkeypatch, tmp_path):
    """The module, changed so that it does not train and writes results into a temporary folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import comparison

    def train(arrays, settings, directory, seed, verbose):
        trained.append((settings, pathlib.Path(directory).name, seed))
        accuracy = 0.9 + 0.01 * seed
        return {
            "density": 0.1,
            "epochs": 1,
            "test_accuracy": accuracy,
            "test_loss": 1.0,
            "history": {},
        }

    trained = comparison.trained = []
    monkeypatch.setattr(comparison, "run_training", train)
    monkeypatch.setattr(comparison.data, "load", lambda name, data_dir: name)
    monkeypatch.setattr(comparison.record, "RESULTS", tmp_path)
    yield comparison
    for name in ("comparison", "record", *NAMES):
        sys.modules.pop(name, None)


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

    cases = [comparison.Case("dense"), comparison.Case("rigl", 0.9, length=2)]
    found = []
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
    assert found[-1] == (recorded["results"]["summary"], tmp_path / "test.png")
    assert [row["seed"] for row in recorded["results"]["rows"]] == [0, 0, 1, 1]
    assert recorded["settings"]["cases"]["rigl_0.9_2x"]["drop_fraction"] == 0.3


@pytest.mark.parametrize("name", NAMES)
def test_cases_have_settings_and_names_of_their_own(comparison, name):
    benchmark = __import__(name)
    cases = benchmark.CASES
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        settings = benchmark.make_settings(case, 50)
        assert (settings.method, settings.sparsity) == (case.method, case.sparsity)
        assert (settings.epochs, settings.steps_per_epoch) == (1, 50)


def test_picture_of_the_lengths(comparison, tmp_path):
    import dynamic_mnist

    summary = [
        {
            "method": case.method,
            "sparsity": case.sparsity,
            "length": case.length,
            "test_accuracy": {"mean": 0.9, "std": None},
        }
        for case in dynamic_mnist.CASES
    ]
    dynamic_mnist.plot_lengths(summary, tmp_path / "lengths.png")
    assert (tmp_path / "lengths.png").read_bytes().startswith(b"\x89PNG")
