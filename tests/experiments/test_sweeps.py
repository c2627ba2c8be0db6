import csv
import io
import itertools
import json
import os
import signal
import statistics
import sys
import textwrap

import pytest
from rich.console import Console

import tf_lottery as tfl
from tf_lottery.experiments import exporting, sweeps
from tf_lottery.experiments.run_folder import read_json
from tf_lottery.experiments.sweeps import places, sweep
from tf_lottery.experiments.sweeps.run import attempt
from tf_lottery.experiments.sweeps.spec import Sweep
from tf_lottery.export import ExportError

SPEC = {
    "dataset": "digits",
    "method": ["dense", "static"],
    "sparsity": [0.5],
    "seed": [0, 1],
    "epochs": 2,
    "steps_per_epoch": 2,
    "batch_size": 20,
}


def names(spec):
    return [run.name for run in Sweep.from_dict(spec).runs]


def test_every_combination_is_a_run_and_seeds_come_first():
    found = Sweep.from_dict({"method": ["set", "imp"], "sparsity": [0.8, 0.9], "seed": [3, 4]})
    expected = itertools.product((3, 4), ("set", "imp"), (0.8, 0.9))
    assert [(r.seed, r.settings.method, r.settings.sparsity) for r in found.runs] == [*expected]
    assert found.runs[1].name == "set_sparsity-0.9_seed-3"
    assert found.varied() == ("method", "sparsity")


def test_methods_take_the_settings_that_they_use():
    spec = {"method": ["dense", "cs", "gmp"], "sparsity": [0.8, 0.9], "epochs": 3, "rounds": 2}
    runs = {run.name: run for run in Sweep.from_dict(spec).runs}
    assert list(runs) == [
        "dense_seed-0",
        "cs_sparsity-0.8_seed-0",
        "cs_sparsity-0.9_seed-0",
        "gmp_sparsity-0.8_seed-0",
        "gmp_sparsity-0.9_seed-0",
    ]
    cs = runs["cs_sparsity-0.9_seed-0"]
    assert (cs.settings.target_density, cs.settings.rounds, cs.epochs) == (0.1, 2, 9)
    assert runs["gmp_sparsity-0.8_seed-0"].epochs == 3


def test_a_target_density_of_one_method_leaves_the_sparsity_to_the_others():
    cases = [{"method": "set"}, {"method": "cs", "target_density": 0.05}]
    expected = ["set_sparsity-0.8_seed-0", "set_sparsity-0.9_seed-0", "cs_target_density-0.05"]
    assert names({"sparsity": [0.8, 0.9], "cases": cases}) == [
        *expected[:2],
        f"{expected[2]}_seed-0",
    ]


def test_cases_replace_common_settings():
    spec = {"epochs": 5, "cases": [{"method": "set"}, {"method": "set", "epochs": [10, 20]}]}
    assert names(spec) == [f"set_epochs-{epochs}_seed-0" for epochs in (5, 10, 20)]


def test_long_names_are_cut_and_stay_apart():
    spec = {"run": "retrain", "model": "lenet-5", "ticket": ["a" * 300 + end for end in "xy"]}
    first, second = names(spec)
    assert names({**spec, "ticket": ["ü.npz", "é.npz"]})[0].isascii()
    assert first != second and len(first) < 200
    assert names({**spec, "ticket": ["a/t.npz", "a-t.npz"]})[0].startswith("retrain_ticket-a-t.npz")


def test_retraining():
    spec = {"run": "retrain", "model": "lenet-5", "ticket": "t.npz", "control": "shuffled_masks"}
    run = Sweep.from_dict({**spec, "tweaks": ["none", "label_smoothing"]}).runs[1]
    assert run.name == "retrain_control-shuffled_masks_tweaks-label_smoothing_seed-0"
    assert run.settings.tweaks == ("label_smoothing",) and run.sources == {
        "ticket": os.path.abspath("t.npz")
    }


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"sparsities": [0.9]}, r"did you mean 'sparsity'\? Received: sparsities"),
        ({"method": "rigll"}, r"`method`.*did you mean 'rigl'\? Received: method='rigll'"),
        ({"run": "retrian"}, r"`run`.*did you mean 'retrain'\?"),
        ({"epochs": "ten"}, "`epochs` of a sweep must be an integer. Received: epochs='ten'"),
        ({"epochs": 0}, "`epochs` of a sweep must be an integer >= 1. Received: epochs=0"),
        ({"seed": [0, -1]}, "`seed` of a sweep must be an integer >= 0. Received: seed=-1"),
        ({"seed": None}, "`seed` of a sweep must be an integer. Received: seed=None"),
        ({"seed": []}, "`seed` of a sweep must have at least one value"),
        ({"sparsity": True}, "`sparsity` of a sweep must be a number. Received: sparsity=True"),
        ({"sparsity": 1.5}, "`sparsity` must be above 0 and below 1"),
        ({"normalize": 1}, "`normalize` of a sweep must be true or false"),
        ({"augment": 3}, "`augment` of a sweep must be names separated by commas"),
        ({"method": "set", "levels": 2}, "`levels` of a sweep is a setting of method imp"),
        ({"method": "imp", "levels": 2, "rate": 0.2}, "`levels` and `rate`.*exclude each other"),
        ({"method": "imp", "rate": 0}, "`rate` must be a number > 0"),
        ({"method": "imp", "rate": 1.5}, r"`rate` must be in \[0, 1\)"),
        ({"export": "int4"}, "`export` of a sweep must be one of float32.*'int4'"),
        ({"method": "set", "retrain": {}}, "`retrain` of a sweep is a setting of method imp, cs"),
        ({"method": "cs", "retrain": "all"}, "`retrain` of a sweep must hold settings by name"),
        ({"method": "cs", "retrain": {"tweak": "all"}}, "did you mean 'tweaks'"),
        ({"method": "cs", "retrain": {"export": 8}}, "`export` of a sweep must be one of"),
        ({"pattern": 124}, r"`pattern` of a sweep must be a text in quotes, as in.*=124"),
        (
            {"sparsity": [0.8, 0.9], "cases": [{"method": "cs", "target_density": 0.05}]},
            "`sparsity` and `target_density` of a sweep exclude each other for method cs",
        ),
        ({"cases": {"method": "set"}}, "`cases` of a sweep must be a list of dicts"),
        ({"cases": [{"run": "train"}]}, "`run` must not stand inside of `cases`"),
        ({"run": "retrain", "model": "lenet-5"}, "`ticket` must be given with `run: retrain`"),
    ],
)
def test_wrong_settings(spec, words):
    with pytest.raises(ValueError, match=words):
        Sweep.from_dict(spec)


def test_files(tmp_path):
    (tmp_path / "a.json").write_text('{"method": "set", "learning_rate": "1e-3"}')
    (tmp_path / "a.toml").write_text('method = "set"\nlearning_rate = 1e-3\n')
    for name in ("a.json", "a.toml"):
        assert Sweep.from_file(tmp_path / name).runs[0].settings.learning_rate == 0.001
    (tmp_path / "e.json").write_text("{}", encoding="utf-16")
    with pytest.raises(ValueError, match=r"must be valid .json. Received: .*e.json"):
        Sweep.from_file(tmp_path / "e.json")
    for name, text in (("b.json", "{"), ("b.toml", "method ="), ("c.json", "[1]"), ("d.txt", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=rf"A sweep must.*{name}"):
            Sweep.from_file(tmp_path / name)


def test_yaml(tmp_path):
    pytest.importorskip("yaml", reason="PyYAML is in the extra `sweep`")
    (tmp_path / "a.yaml").write_text("method: [set, dense]\nlearning_rate: 1e-3\n")
    assert Sweep.from_file(tmp_path / "a.yaml").runs[1].settings.learning_rate == 0.001
    (tmp_path / "a.yaml").write_text("method: [set")
    with pytest.raises(ValueError, match="valid .yaml"):
        Sweep.from_file(tmp_path / "a.yaml")


@pytest.mark.usefixtures("small_networks", "mode")
def test_an_interrupted_sweep_goes_on_to_the_same_table(tmp_path):
    whole, ended = Sweep.from_dict(SPEC), []
    result = sweeps.run_sweep(whole, tmp_path / "a", on_run=lambda run, *_: ended.append(run.name))
    assert ended == [run.name for run in whole.runs]

    def interrupt(run, outcome, message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweeps.run_sweep(whole, tmp_path / "b", on_run=interrupt)
    assert not (tmp_path / "b" / "results.json").exists()
    assert len(sweep.unfinished(whole, tmp_path / "b")) == 3
    again = sweeps.run_sweep(whole, tmp_path / "b")
    assert again.to_dict() == result.to_dict() == read_json(tmp_path / "a" / "results.json")

    accuracies = [
        read_json(tmp_path / "a" / f"static_sparsity-0.5_seed-{seed}" / "results.json")
        for seed in (0, 1)
    ]
    accuracies = [found["test_accuracy"] for found in accuracies]
    group = result.summary()[1]
    assert (group["method"], group["seeds"], group["density"]["std"]) == ("static", 2, 0)
    assert group["test_accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    assert group["test_accuracy"]["std"] == pytest.approx(statistics.stdev(accuracies))
    assert f"{sum(accuracies) / 2:.2%}" in str(result) and "over 2 seeds" in str(result)
    with open(tmp_path / "a" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ended and rows[0]["epochs"] == "2"

    # Nothing is left to train.
    sweeps.run_sweep(whole, tmp_path / "a", on_run=interrupt)
    others = {"epochs": 20, "model": "lenet-5", "dataset": "mnist", "normalize": True}
    for name, value in others.items():
        with pytest.raises(ValueError, match=rf"new folder.*{name}=\S+ instead of {value!r}"):
            sweeps.run_sweep(Sweep.from_dict({**SPEC, name: value}), tmp_path / "a")
    (tmp_path / "a" / "notes.txt").write_text("mine")
    sweeps.remove_sweep(whole, tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["notes.txt"]


@pytest.fixture
def retraining(tmp_path, make_model):
    """The spec of a retraining with all tweaks, and a function that writes its results."""
    for name, sparsity in (("one", 0.5), ("two", 0.8)):
        tfl.Ticket.from_model(tfl.sparsify(make_model(), sparsity)).save(tmp_path / f"{name}.npz")
    spec = {"run": "retrain", "model": "lenet-5", "ticket": str(tmp_path / "one.npz")}
    spec["tweaks"] = "all"

    def finish(steps):
        (run,) = Sweep.from_dict(spec).runs
        settings = run._determining({"settings": {"tweaks": ["label_smoothing"]}}, tmp_path)
        results = {"settings": settings, "density": 0.5, "epochs": 10, "test_accuracy": 1}
        (tmp_path / run.name).mkdir(exist_ok=True)
        for name, content in (
            ("settings", {"run": "retrain", **settings}),
            ("results", {**results, "test_loss": 0, "steps": steps}),
        ):
            (tmp_path / run.name / f"{name}.json").write_text(json.dumps(content))

    return spec, finish


def test_retrainings_of_another_ticket_are_not_finished(tmp_path, retraining):
    spec, finish = retraining
    finish(steps=100)
    assert sweep.unfinished(Sweep.from_dict(spec), tmp_path) == []
    changed = Sweep.from_dict({**spec, "ticket": str(tmp_path / "two.npz")})
    with pytest.raises(ValueError, match="ticket='.*' instead of '"):
        sweep.unfinished(changed, tmp_path)


def test_retrainings_with_all_tweaks_notice_a_teacher(tmp_path, retraining, make_model):
    spec, finish = retraining
    make_model().save(tmp_path / "teacher.keras")
    taught = Sweep.from_dict({**spec, "teacher": str(tmp_path / "teacher.keras")})
    # A short training does not use it.
    finish(steps=9_999)
    assert sweep.unfinished(taught, tmp_path) == []
    finish(steps=10_000)
    with pytest.raises(ValueError, match="distillation.*teacher=None instead of '"):
        sweep.unfinished(taught, tmp_path)


@pytest.mark.usefixtures("small_networks", "mode")
def test_a_ticket_of_the_sweep_is_trained_again(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "export_run", lambda folder, data, precision: written(folder))
    monkeypatch.setattr(exporting, "read_export", lambda folder, precision: files.get(folder))
    measured = {"file_bytes": 7, "file_accuracy": 0.5, "file_milliseconds": 0.1}
    files = {}

    def written(folder):
        return files.setdefault(folder, measured)

    spec = {"method": "imp", "levels": 1, "epochs": 1, "steps_per_epoch": 2, "batch_size": 20}
    again = {"tweaks": ["none", "label_smoothing"], "epochs": 2, "export": "weight_int8"}
    whole = Sweep.from_dict({**spec, "retrain": again})
    searched, first, second = whole.runs
    assert (first.export, first.epochs, first.settings.batch_size) == ("weight_int8", 2, 20)
    assert second.name == "imp_seed-0_retrained_tweaks-label_smoothing"
    # Whoever trains a ticket again, as a job of SLURM does, searches it first.
    second.train(tmp_path)
    assert sweep.unfinished(whole, tmp_path) == [first]
    result = sweeps.run_sweep(whole, tmp_path)
    # Two levels of two steps each; then the first level, and two epochs of two steps.
    assert [row["steps"] for row in result.rows] == [4, 6, 6]
    assert [row["total_epochs"] for row in result.rows] == [2, 3, 3]
    flops = [row["training_flops"] for row in result.rows]
    assert flops[1] == flops[2] > flops[0]
    assert [row.get("file_bytes") for row in result.rows] == [None, 7, 7]
    assert [group["tweaks"] for group in result.summary()] == [None, (), ("label_smoothing",)]
    assert "imp, retrained" in str(result)


def test_several_files_of_a_ticket_are_several_runs():
    again = {"export": ["float32", "int8", "float32"]}
    _, *runs = Sweep.from_dict({"method": "imp", "retrain": again}).runs
    assert {run.name: run.export for run in runs} == {
        "imp_seed-0_retrained": "float32",
        "imp_seed-0_retrained_export-int8": "int8",
    }


def test_a_file_that_is_wrong_gives_no_advice_for_an_export_by_itself(tmp_path, monkeypatch):
    def refuse(*_):
        raise ExportError("Dense: it differs. Pass quantize='int16x8'.", "Dense: it differs.")

    (run,) = Sweep.from_dict({"method": "dense", "export": "int8"}).runs
    monkeypatch.setattr(exporting, "export_run", refuse)
    monkeypatch.setattr(type(run), "_train", lambda *_: {})
    message = "The file of `export: int8` cannot be made. Dense: it differs."
    assert attempt(run, tmp_path) == ("refused", message)


def test_the_table_fits_the_console():
    measures = {"density": 0.05, "test_accuracy": 0.912, "steps": 12000, "training_flops": 8.3e11}
    measures |= {"file_bytes": 20928, "file_accuracy": 0.9, "file_milliseconds": 0.0037}
    result = sweeps.SweepResult(("method",), [{"method": "synflow", "seed": 0, **measures}], {})
    texts = {}
    for width in (80, 60, 40):
        console = Console(width=width, file=io.StringIO())
        console.print(result)
        texts[width] = console.file.getvalue()
        assert "synflow" in texts[width] and "91.20%" in texts[width] and "20,928" in texts[width]
    for cell in ("5.00%", "12,000", "8.3e11", "90.00%", "0.0037"):
        assert cell in texts[80]
    assert "No room" not in texts[80] and "No room for: Steps, File acc." in texts[40]


def test_the_table_says_what_its_flops_leave_out():
    rows = [
        {"method": "set", "seed": 0, "training_flops": 8e9, "flops_coverage": share}
        for share in (1.0, 0.5)
    ]
    texts = [str(sweeps.SweepResult(("method",), [row], {})) for row in rows]
    whole, half = (" ".join(text.split()) for text in texts)
    assert "Train FLOPs cover only 50.0% of the weights" in half
    assert "cover only" not in whole


class Scripted:
    """A place where every run ends as a script says."""

    def __init__(self, outcomes):
        self.outcomes, self.started = outcomes, []

    def submit(self, run):
        self.started.append(run.name)
        return object(), run.name

    def wait(self, handles):
        handle = next(iter(handles))
        yield handle, (self.outcomes[handle[1]].pop(0), "why")


def test_runs_that_fail_are_tried_again_and_wrong_ones_are_not():
    spec = {"method": ["dense", "static", "set", "rigl"]}
    runs = Sweep.from_dict(spec).runs
    outcomes = [["in use", "finished"], ["failed", "finished"], ["failed"] * 3, ["refused"]]
    place = Scripted(dict(zip((run.name for run in runs), outcomes, strict=True)))
    reported = []
    failed = sweep._train(runs, place, 2, lambda run, outcome, message: reported.append(outcome))
    assert failed == {runs[2].name: "why", runs[3].name: "why"}
    assert [place.started.count(run.name) for run in runs] == [2, 2, 3, 1]
    counts = {outcome: reported.count(outcome) for outcome in reported}
    assert counts == {"in use": 1, "again": 3, "finished": 2, "failed": 2}


WORKER = """
import os, signal

def attempt(run, directory):
    if run == "killed" and not os.path.exists(directory):
        os.mkdir(directory)
        os.kill(os.getpid(), signal.SIGKILL)
    if run == "raises":
        raise TypeError("a mistake")
    return "finished", str(os.getpid())
"""


def test_a_process_that_cannot_start_fails_its_run_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with places.Processes(tmp_path, 1) as place:
        ((_, found),) = place.wait([place.submit("one")])
    assert found[0] == "failed" and "Python interpreter" in found[1]


@pytest.mark.parametrize(("gpus", "warned"), [(0.5, 0), (2, 1)])
def test_runs_that_fit_on_no_machine_of_a_cluster(gpus, warned, tmp_path, recwarn):
    place = places.RayCluster(tmp_path, "auto", cpus=2, gpus=gpus)
    place._warn_if_too_small([{"CPU": 8.0, "memory": 1.0}, {"CPU": 2.0, "GPU": 1.0}])
    assert [str(w.message)[:34] for w in recwarn] == ["No machine of the Ray cluster has "] * warned


@pytest.mark.parametrize("arguments", [{"cpus": 0}, {"gpus": -1}, {"jobs": 0}, {"retries": -1}])
def test_wrong_arguments(arguments, tmp_path):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be.*Received"):
        sweeps.run_sweep(Sweep.from_dict({}), tmp_path, **arguments)


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_process_that_dies_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "worker.py").write_text(textwrap.dedent(WORKER))
    monkeypatch.setattr(places, "_WORKER", tmp_path / "worker.py")
    with places.Processes(str(tmp_path / "died"), 2) as place:

        def outcome(*runs):
            handles = {place.submit(run): run for run in runs}
            ended = {}
            while handles:
                for handle, found in list(place.wait(handles)):
                    ended[handles.pop(handle)] = found
            return ended

        first = outcome("killed", "raises")
        assert first["killed"][0] == "failed" and signal.SIGKILL.name in first["killed"][1]
        assert first["raises"] == ("failed", "TypeError: a mistake")
        second = outcome("killed", "well")
        assert {found[0] for found in second.values()} == {"finished"}
    pids = {int(found[1]) for found in second.values()}
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_a_run_that_another_process_trains_is_left_to_it(tmp_path, monkeypatch):
    from tf_lottery.experiments.folder_lock import FolderInUse
    from tf_lottery.experiments.sweeps import run as runs

    monkeypatch.setattr(runs, "_PAUSE", 0)
    errors = {"in use": FolderInUse("x"), "refused": ValueError("x"), "failed": OSError("x")}
    run = Sweep.from_dict({"method": "dense"}).runs[0]
    for expected, error in errors.items():

        def train(*_, error=error):
            raise error

        monkeypatch.setattr(runs.Run, "train", train)
        assert runs.attempt(run, tmp_path)[0] == expected


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"run": "train"}))
    with pytest.raises(ValueError, match="--out"):
        sweeps.run_sweep(Sweep.from_dict({"method": "dense"}), tmp_path)
