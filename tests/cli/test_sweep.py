import json
import subprocess
import types

import pytest

from tf_lottery_cli import sweep_table

trains = pytest.mark.usefixtures("size")


@pytest.fixture
def spec(tmp_path):
    content = {"method": ["static", "dense"], "epochs": 1, "batch_size": 400}
    (tmp_path / "spec.json").write_text(json.dumps(content))
    return tmp_path / "spec.json"


@trains
def test_sweep_and_list(command, spec, tmp_path):
    out = tmp_path / "out"
    code, printed, _ = command("sweep", spec, "--out", out, "--only", 1)
    assert code == 0 and "dense_seed-0" in printed and not (out / "results.json").exists()
    code, printed, err = command("sweep", spec, "--out", out)
    assert code == 0 and "acc." in printed
    assert "2/2 static_seed-0: finished" in err and "dense" not in err
    assert (out / "sweep.png").exists() and (out / "results.csv").exists()
    code, printed, err = command("sweep", spec, "--out", out)
    assert code == 0 and "nothing was trained" in printed and "finished" not in err
    code, printed, _ = command("list", out, "--json")
    assert json.loads(command("sweep", spec, "--out", out, "--json")[1])["varied"] == ["method"]
    states = {row["path"]: row["state"] for row in json.loads(printed)}
    assert states == dict.fromkeys(("dense_seed-0", "static_seed-0"), "finished")
    assert "2 finished" in command("list", out)[1]


@trains
def test_ctrl_c_shows_what_is_known(command, spec, tmp_path, monkeypatch):
    from tf_lottery.experiments.sweeps import sweep

    train, out = sweep.places.attempt, tmp_path / "out"

    def interrupt_the_second(run, *arguments):
        if (out / "static_seed-0" / "results.json").exists():
            raise KeyboardInterrupt
        return train(run, *arguments)

    monkeypatch.setattr(sweep.places, "attempt", interrupt_the_second)
    code, printed, err = command("sweep", spec, "--out", out, "--quiet")
    assert code == 130 and "1 of 2 runs so far" in printed and "static" in printed
    assert err == "tf-lottery: interrupted (the same command goes on where it stopped)\n"


@trains
def test_a_failed_run_leaves_the_others(command, tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"method": "dense", "batch_size": [400, 4000], "epochs": 1}))
    code, out, err = command("sweep", spec, "--out", tmp_path / "out")
    assert code == 2 and "acc." in out
    assert (
        "1 of 2 runs failed; results.json has all errors" in err
        and "`batch_size` must be between" in err
    )


def test_job_array(command, spec, tmp_path):
    code, out, _ = command("sweep", spec, "--out", tmp_path / "a b", "--slurm", "--gpus", 1)
    assert code == 0
    assert "#SBATCH --array=0-1\n" in out and "--gpus-per-task=1\n" in out and "--requeue" in out
    assert f"{spec} --out '{tmp_path}/a b' --only \"$SLURM_ARRAY_TASK_ID\"\n" in out
    assert subprocess.run(["bash", "-n"], input=out, text=True).returncode == 0
    assert not (tmp_path / "a b").exists()
    other = spec.rename(tmp_path / "two words.json")
    assert "#SBATCH --job-name='two words'\n" in command("sweep", other, "--slurm")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("sweep", "required: SPEC"),
        ("sweep spec.json --jobs 0", "--jobs: must be an integer >= 1"),
        ("sweep spec.json --jobs 2 --slurm", "not allowed with argument --jobs"),
        ("sweep spec.json --only 2", "--only must be below 2"),
        ("sweep spec.json --only 1 --fresh", "--fresh deletes the runs of the whole sweep"),
        ("sweep spec.json --slurm --fresh", "Received: --fresh --slurm"),
        ("sweep spec.json --slurm --gpus 0.5", "--gpus must be a whole number with --slurm"),
        ("sweep spec.json --gpus -1", "--gpus: must be a number of 0 or more"),
        ("list", "DIR: must be a folder that is there. Received: 'runs'"),
        ("list runns", "DIR: must be a folder that is there. Received: 'runns'"),
        ("list spec", "DIR: must be a folder that is there. Received: 'spec'"),
        ("list spec.json", "DIR: must be a folder. Received: 'spec.json', a file"),
    ],
)
def test_wrong_arguments(refused, spec, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused(*arguments.split())


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        # Without the start of the process, two epochs took 20 seconds.
        (1, ["", "40 s left", "30 s left", ""]),
        (2, ["", "", "30 s left", ""]),
    ],
)
def test_time_left(monkeypatch, jobs, expected):
    times = iter([100.0, 120.0, 130.0, 170.0])
    time = types.SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr(sweep_table, "time", time)
    epochs = {"a": 1, "b": 2, "c": 1, "d": 3}
    runs = [types.SimpleNamespace(name=name, epochs=n) for name, n in epochs.items()]
    clock = sweep_table.Clock(runs, jobs)
    assert [clock.left(run) for run in runs] == expected
