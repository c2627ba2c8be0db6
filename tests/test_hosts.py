"""Trains in several JAX processes, which `benchmarks/several_hosts.py` starts."""

import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

TESTS = pathlib.Path(__file__).parent
BENCHMARKS = TESTS.parent / "benchmarks"
MODULES = ("several_hosts", "several_hosts_cases", "record")

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="started from the TensorFlow run"
)


@pytest.fixture(scope="module")
def several_hosts():
    """The script that starts the processes."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs JAX")
    try:
        socket.gethostbyname(socket.gethostname())
    except socket.gaierror:
        pytest.skip("JAX's processes find each other by the host's name, which has no address here")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("several_hosts")
        for name in MODULES:
            sys.modules.pop(name, None)


def errors_in(text):
    return [line.removeprefix("error: ") for line in text.splitlines() if line.startswith("error")]


def test_two_processes_share_a_training(several_hosts, tmp_path):
    script = TESTS / "shared_training.py"
    texts = several_hosts.start(tmp_path, "model", cases=["search"], script=script)
    texts.append((tmp_path / "fork.log").read_text())
    results = several_hosts.results_of(tmp_path, "search", 2)
    found = several_hosts.compare(results, results[0])
    assert (found["identical"], found["other_layouts"], found["writers"]) == (True, [], 1)
    assert results[0]["mask_0"].sum() == 8
    first, second = map(errors_in, texts)
    assert first[0] == "no space left"
    assert "Process 0 could not write" in second[0]
    assert first[1] == second[1]
    assert "another file for the processes [1]" in first[1]
    assert "no other process works" in first[2]
    assert first[3] == "no space left"
    assert "Process 0 could not write" in second[2] and second[2] == second[3]
    assert list(tmp_path.rglob(".lock")) == []


@pytest.fixture(scope="module")
def of_one_process(several_hosts, tmp_path_factory):
    """Function of a case that returns what one process ends with."""
    out = tmp_path_factory.mktemp("one")
    several_hosts.start(out, "one")
    return lambda case: several_hosts.results_of(out, case)[0]


@pytest.mark.thorough("the quick tier searches tickets in two processes")
@pytest.mark.parametrize("number", range(5))
def test_every_method_in_several_processes(number, several_hosts, of_one_process, tmp_path):
    kind, count, devices = list(several_hosts.SETTINGS.values())[number]
    several_hosts.start(tmp_path, kind, count, devices)
    for case in several_hosts.several_hosts_cases.CASES:
        results = several_hosts.results_of(tmp_path, case, count)
        found = several_hosts.compare(results, of_one_process(case))
        assert found["identical"], case
        assert found["equal_masks"] >= 0.999, case
        assert found["largest_difference"] <= 1e-6 or count > 1, case
        assert found["other_layouts"] == [], case
        assert found["writers"] <= 1, case


@pytest.mark.thorough("six processes that import JAX")
def test_a_killed_worker_resumes_to_the_same(several_hosts, tmp_path):
    several_hosts.start(tmp_path / "whole", "data", 2, cases=["IMP"])
    expected = several_hosts.results_of(tmp_path / "whole", "IMP")[0]
    found = several_hosts.measure_kill(tmp_path / "killed", "IMP", 2, expected)
    assert found == {"killed": True, "identical": True, "stray_files": []}


@pytest.mark.thorough("two processes that import JAX; `test_docs.py` reads the program")
def test_the_program_of_the_guide_trains_in_two_processes(several_hosts, tmp_path):
    program = TESTS.parent / "docs" / "guides" / "hosts" / "train.py"
    shared = {
        **os.environ,
        "COORDINATOR": f"localhost:{several_hosts.free_port()}",
        "NUM_PROCESSES": "2",
        "FOLDER": str(tmp_path),
    }
    processes = [
        subprocess.Popen([sys.executable, program], env={**shared, "PROCESS_ID": str(index)})
        for index in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    kernel = keras.saving.load_model(tmp_path / "model.keras").layers[0].kernel
    assert np.mean(np.array(kernel) == 0) == pytest.approx(0.9, abs=1e-3)


@pytest.mark.thorough("two processes that import TensorFlow")
def test_several_workers_of_tensorflow_are_refused(several_hosts):
    addresses = [f"localhost:{several_hosts.free_port()}" for _ in range(2)]
    workers = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        cluster = json.dumps({"cluster": {"worker": addresses}, "task": task})
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CONFIG": cluster}
        command = [sys.executable, str(TESTS / "multi_worker.py")]
        workers.append(
            subprocess.Popen(
                command,
                env=environment,
                cwd=TESTS.parent,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
    for worker in workers:
        found = json.loads(worker.communicate(timeout=300)[0].splitlines()[-1])
        # If this is `None`, Keras has learned it, and the library need not refuse it.
        assert found["plain"] is not None
        for message in (found["sparse"], found["callback"]):
            assert "needs JAX with `keras.distribution`" in message
            assert "2 workers" in message
