"""The same tests on the other backend and on several devices, each in a process of its own."""

import concurrent.futures
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


@pytest.fixture
def run_pytest_on_jax(tmp_path_factory):
    """Function that runs tests on JAX.

    Models of the same kind share their compiled functions, between these runs too: most of the
    time would go into compiling them again. The folder belongs to one worker of pytest-xdist
    alone, since JAX does not lock it.
    """
    pytest.importorskip("jax")
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.getbasetemp() / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return lambda *arguments: run_pytest(*arguments, KERAS_BACKEND="jax", **cache)


@pytest.mark.parametrize("algorithms", ["imp or gmp", "cs", "not imp and not gmp and not cs"])
def test_contract_on_jax(algorithms, run_pytest_on_jax):
    run_pytest_on_jax("tests/test_contract.py", "-k", algorithms)


@pytest.mark.parametrize(
    "paths",
    [
        [
            "tests/layers",
            "tests/at_init/test_at_init.py",
            "tests/export/compaction/test_compact_layers.py",
            "tests/test_model.py",
            "tests/test_optimizers.py",
            "tests/test_pruning.py",
        ],
        [
            "tests/callbacks/test_continuous_sparsification.py",
            "tests/callbacks/test_gate_health.py",
        ],
        [
            "tests/callbacks/test_dynamic_sparse_training.py",
            "tests/callbacks/test_gradual_magnitude_pruning.py",
            "tests/callbacks/test_rigl.py",
            "tests/callbacks/test_snfs.py",
            "tests/test_snapshot.py",
            "tests/test_ticket.py",
        ],
        [
            "tests/analysis/test_connectivity.py",
            "tests/callbacks/test_tweak_annealing.py",
            "tests/controls/test_weights.py",
            "tests/retrain/test_distillation.py",
            "tests/retrain/test_label_smoothing.py",
        ],
    ],
    ids=["model", "gates", "callbacks", "retraining"],
)
def test_core_on_jax(paths, run_pytest_on_jax):
    run_pytest_on_jax(*paths)


# TensorFlow expects the first sum over replicas in a process to have one shape, whatever model
# it belongs to; gates and tweaks change it.
@pytest.mark.parametrize(
    ("algorithms", "number"), [("not cs and not retraining", 7), ("cs", 2), ("retraining", 1)]
)
def test_mirrored_strategy(algorithms, number):
    found = run_pytest(
        "tests/test_contract.py",
        "-k",
        f"two_devices and {algorithms}",
        KERAS_BACKEND="tensorflow",
        TF_LOTTERY_TEST_DEVICES="2",
    )
    assert found.strip().splitlines()[-1].startswith(f"{number} passed")


def test_data_parallel_on_jax():
    pytest.importorskip("jax")
    run(
        [str(TESTS / "data_parallel.py")],
        KERAS_BACKEND="jax",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )


def assert_same_masks(*outputs):
    """Checks what `replicas.py` printed: equal masks on all replicas, almost equal weights."""
    found = [json.loads(output.splitlines()[-1]) for output in outputs]
    masks = {mask for result in found for mask in result["masks"]}
    assert len(masks) == 1
    assert masks != set(found[0]["start"])
    for result in found[1:]:
        for kernel, expected in zip(result["kernels"], found[0]["kernels"], strict=True):
            np.testing.assert_allclose(kernel, expected, rtol=1e-4, atol=1e-6)
    return [len(result["masks"]) for result in found]


def test_rigl_on_mirrored_replicas():
    script = str(TESTS / "replicas.py")
    outputs = [run([script, kind], KERAS_BACKEND="tensorflow") for kind in ("one", "mirrored")]
    assert assert_same_masks(*outputs) == [1, 2]


def test_rigl_in_two_processes_on_jax():
    pytest.importorskip("jax")
    try:
        socket.gethostbyname(socket.gethostname())
    except socket.gaierror:
        pytest.skip("JAX's processes find each other by the host's name, which has no address here")
    script = str(TESTS / "replicas.py")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        outputs = pool.map(
            lambda arguments: run([script, *arguments], KERAS_BACKEND="jax"),
            [["process", address, "0"], ["process", address, "1"], ["one"]],
        )
        assert assert_same_masks(*reversed(list(outputs))) == [1, 1, 1]


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
