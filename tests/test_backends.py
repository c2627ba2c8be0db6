"""The same tests on the other backend and on several devices, each in a process of its own."""

import os
import pathlib
import subprocess
import sys

import keras
import pytest

TESTS = pathlib.Path(__file__).parent

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="started from the TensorFlow run"
)


def run(arguments, **environment):
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=TESTS.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-2000:]
    return finished.stdout


def run_pytest(*arguments, **environment):
    return run(["-m", "pytest", "-q", "-p", "no:xdist", *arguments], **environment)


@pytest.mark.parametrize("algorithm", ["imp", "gmp"])
def test_contract_on_jax(algorithm):
    pytest.importorskip("jax")
    run_pytest("tests/test_contract.py", "-k", algorithm, KERAS_BACKEND="jax")


@pytest.mark.parametrize(
    "paths",
    [
        ["tests/test_contract.py", "-k", "not imp and not gmp"],
        ["tests/layers", "tests/sparsity", "tests/test_model.py"],
        ["tests/callbacks", "tests/test_snapshot.py", "tests/test_ticket.py"],
    ],
    ids=["rest_of_contract", "model", "callbacks"],
)
def test_core_on_jax(paths):
    pytest.importorskip("jax")
    run_pytest(*paths, KERAS_BACKEND="jax")


def test_mirrored_strategy():
    found = run_pytest(
        "tests/test_contract.py",
        "-k",
        "two_devices",
        KERAS_BACKEND="tensorflow",
        TF_LOTTERY_TEST_DEVICES="2",
    )
    assert "2 passed" in found


def test_data_parallel_on_jax():
    pytest.importorskip("jax")
    run(
        [str(TESTS / "data_parallel.py")],
        KERAS_BACKEND="jax",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )


def test_core_needs_no_tensorflow():
    pytest.importorskip("jax")
    code = """
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
"""
    assert "75.00%" in run(["-c", code], KERAS_BACKEND="jax")
