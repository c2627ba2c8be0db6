"""Runs tests on the other backends and on several devices, each in a separate process."""

import json
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

TESTS = pathlib.Path(__file__).parent

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="started from the TensorFlow run"
)


def run(arguments, timeout=3600, **environment):
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=TESTS.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-2000:]
    return finished.stdout


@pytest.fixture
def run_pytest(request):
    """Returns a function that runs tests in another process, in the tier of this run."""
    tier = ["--thorough"] if request.config.option.thorough else []
    # Without pytest's cache, where this run stores which tests failed.
    command = ["-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *tier]
    timeout = 7200 if tier else 3600
    return lambda *arguments, **kwargs: run([*command, *arguments], timeout=timeout, **kwargs)


@pytest.fixture
def compiled(request, tmp_path):
    """Environment variables that make a backend cache compiled functions across runs.

    Compiling takes most of the time. JAX does not lock the folder, so only one test may use it.
    """
    cache = getattr(request.config, "cache", None)
    return {
        "JAX_COMPILATION_CACHE_DIR": str(cache.mkdir("jax") if cache else tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def files_with(text):
    files = sorted(TESTS.rglob("test_*.py"))
    return [str(f) for f in files if text in f.read_text() and f != pathlib.Path(__file__)]


# One process per backend, since importing it and compiling takes long.
@pytest.mark.runs_pytest("runs the tests marked `backend`, of which each has a limit of its own")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_core(backend, run_pytest, compiled, request):
    pytest.importorskip(backend)
    files = files_with("pytest.mark.backend")
    assert files
    # The thorough tier runs all tests of these files on JAX. Others of them use what PyTorch lacks,
    # such as `steps_per_execution`.
    runs_all = request.config.option.thorough and backend == "jax"
    chosen = [] if runs_all else ["-m", "backend"]
    run_pytest(*files, *chosen, KERAS_BACKEND=backend, **compiled)


# In one process, TensorFlow requires the same shape for the first sum over replicas of every
# model. Gates and tweaks change that shape, which is that of the gradients.
@pytest.mark.thorough("`test_hosts.py` trains in two processes")
@pytest.mark.parametrize(
    ("chosen", "number"),
    [
        ("rigl-dense or train_as_one", 3),
        ("cs", 2),
        ("retraining", 1),
        ("nested and not cs and not retraining", 7),
    ],
)
def test_mirrored_strategy(chosen, number, run_pytest):
    found = run_pytest(
        "tests/test_contract.py",
        "-k",
        f"two_devices and ({chosen})",
        KERAS_BACKEND="tensorflow",
        TF_LOTTERY_TEST_DEVICES="2",
    )
    assert re.search(rf"^{number} passed", found, re.MULTILINE)


@pytest.mark.thorough("`test_hosts.py` trains in two processes")
@pytest.mark.parametrize(("script", "devices"), [("data_parallel.py", 2), ("three_devices.py", 3)])
def test_devices_of_jax(script, devices):
    pytest.importorskip("jax")
    run(
        [str(TESTS / script)],
        KERAS_BACKEND="jax",
        XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
    )


def assert_same_masks(*outputs):
    """Checks the output of `replicas.py`: equal masks on all replicas, almost equal weights."""
    found = [json.loads(output.splitlines()[-1]) for output in outputs]
    masks = {mask for result in found for mask in result["masks"]}
    assert len(masks) == 1
    assert masks != set(found[0]["start"])
    for result in found[1:]:
        for kernel, expected in zip(result["kernels"], found[0]["kernels"], strict=True):
            np.testing.assert_allclose(kernel, expected, rtol=1e-4, atol=1e-6)
    return [len(result["masks"]) for result in found]


@pytest.mark.thorough("two processes that import TensorFlow")
def test_rigl_on_mirrored_replicas():
    script = str(TESTS / "replicas.py")
    outputs = [run([script, kind], KERAS_BACKEND="tensorflow") for kind in ("one", "mirrored")]
    assert assert_same_masks(*outputs) == [1, 2]


def test_core_needs_no_tensorflow(tmp_path):
    pytest.importorskip("jax")
    code = f"""
import sys
for name in ("tensorflow", "matplotlib", "ai_edge_litert", "tensorflow_datasets", "sklearn"):
    sys.modules[name] = None
import keras, tf_lottery as tfl
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
sparse = tfl.sparsify(model, sparsity=0.5)
sparse.compile("adam", "mse")
schedule = tfl.sparsity.Polynomial(final_value=0.75, end_step=2)
pruning = tfl.callbacks.GradualMagnitudePruning(schedule, frequency=1)
sparse.fit(keras.ops.ones((8, 4)), keras.ops.ones((8, 3)), batch_size=4, verbose=0,
           callbacks=[pruning])
print(tfl.summary(sparse), tfl.strip(sparse) is model)

from tf_lottery.analysis.plots import plot_lottery
from tf_lottery.experiments import data
logger = tfl.callbacks.SparsityLogger({str(tmp_path)!r})
for call in (
    lambda: tfl.inspect_tflite(b"TFL3TFL3"),
    lambda: plot_lottery([], "lottery.png"),
    lambda: data.load("digits"),
    lambda: data.load("mnist"),
    lambda: sparse.fit(keras.ops.ones((8, 4)), callbacks=[logger]),
):
    try:
        call()
    except ImportError as error:
        print(error)
import tf_lottery_cli
print(tf_lottery_cli.main(["train", "--method", "static"]))
"""
    output = run(["-c", code], KERAS_BACKEND="jax")
    assert "75.00%" in output
    found = re.findall(
        r'(.*) must be installed for this: `pip install "tf_lottery\[(.*)\]"`', output
    )
    assert found == [
        ("ai_edge_litert", "export"),
        ("matplotlib", "plots"),
        ("sklearn", "experiments"),
        ("tensorflow_datasets, tensorflow", "experiments"),
        ("tensorflow", "tensorflow"),
    ]
    assert output.splitlines()[-1] == "2"


def test_command_names_a_missing_backend():
    code = """
import sys
sys.modules["tensorflow"] = None
import tf_lottery_cli
print(tf_lottery_cli.main(["inspect", sys.executable]))
"""
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.stdout == "2\n"
    assert finished.stderr.count("\n") == 1
    assert '`pip install "tf_lottery[tensorflow]"`' in finished.stderr
