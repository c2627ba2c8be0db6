import os
import pathlib
import subprocess
import sys
from importlib.util import find_spec

import keras
import pytest

import tf_lottery as tfl
from tf_lottery.callbacks import GradualMagnitudePruning, RigL
from tf_lottery.sparsity import Constant, Polynomial

FOLDER = pathlib.Path(__file__).parent
TFMOT_SETS = "TF_USE_LEGACY_KERAS"

needs_tfmot = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow"
    or any(find_spec(name) is None for name in ("tensorflow_model_optimization", "tf_keras")),
    reason="needs TFMOT, and is started from the TensorFlow run",
)


def decay(**arguments):
    defaults = {
        "initial_sparsity": 0.25,
        "final_sparsity": 0.75,
        "power": 3,
        "begin_step": 10,
        "end_step": 110,
        "frequency": 20,
    }
    return {"class_name": "PolynomialDecay", "config": {**defaults, **arguments}}


def constant(**arguments):
    defaults = {"target_sparsity": 0.5, "begin_step": 3, "end_step": -1, "frequency": 100}
    return {"class_name": "ConstantSparsity", "config": {**defaults, **arguments}}


def run(arguments, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != TFMOT_SETS}
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=FOLDER.parents[1],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-2000:]
    return finished.stdout


def test_schedules_are_translated():
    found = [tfl.interop.tfmot.schedule(config) for config in (decay(), constant(end_step=50))]
    assert found == [Polynomial(0.75, 110, 10, 0.25, 3), Constant(0.5, 3)]
    # 0.75 - 0.5 (1 - 50 / 100)^3
    assert found[0](60) == 0.6875


def test_translated_schedules_survive_serialization():
    for config in (decay(), constant()):
        schedule = tfl.interop.tfmot.schedule(config)
        serialized = keras.saving.serialize_keras_object(schedule)
        assert keras.saving.deserialize_keras_object(serialized) == schedule


def test_callback_takes_over_the_frequency():
    callback = tfl.interop.tfmot.pruning_callback(decay())
    assert isinstance(callback, GradualMagnitudePruning)
    assert (callback.frequency, callback.scope) == (20, "layer")
    callback = tfl.interop.tfmot.pruning_callback(decay(), frequency=5, scope="global")
    assert (callback.frequency, callback.scope) == (5, "global")


def test_schedule_drives_dynamic_sparse_training():
    falling = decay(initial_sparsity=0.3, final_sparsity=0.0, begin_step=0, end_step=75)
    callback = RigL(drop_fraction=tfl.interop.tfmot.schedule(falling))
    assert callback.end_step == 75
    assert callback.drop_fraction(0) == 0.3


@pytest.mark.parametrize(
    "value",
    [
        None,
        0.5,
        Polynomial(0.5, 10),
        {},
        decay()["config"],
        {"class_name": "PolynomialDecay", "config": {"final_sparsity": 0.5}},
        {"class_name": "ExponentialDecay", "config": {}},
        {"class_name": ["PolynomialDecay"], "config": {}},
        keras.optimizers.schedules.PolynomialDecay(0.1, 10),
    ],
)
def test_other_schedules_are_refused(value):
    for function in (tfl.interop.tfmot.schedule, tfl.interop.tfmot.pruning_callback):
        with pytest.raises(ValueError, match="`pruning_schedule` must be .*Received: pruning_sch"):
            function(value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (decay(begin_step=0.5), "`begin_step` must be an integer"),
        (decay(end_step=-1), "`end_step` must be an integer >= 0"),
        (decay(end_step=5), "`end_step` must not lie before"),
        (decay(final_sparsity=1.0), "`final_value` must be in"),
        (constant(begin_step=-3), "`begin_step` must be an integer >= 0"),
    ],
)
def test_arguments_outside_their_range_are_named(config, message):
    with pytest.raises(ValueError, match=f"{message}.*Received"):
        tfl.interop.tfmot.schedule(config)


def test_models_of_keras_3_are_refused(make_model):
    for model in (make_model(), tfl.sparsify(make_model(), 0.5), None):
        with pytest.raises(ValueError, match="must be a built `tf_keras` model.*Received"):
            tfl.interop.tfmot.ticket(model)


# The tests that are left out on JAX only read models of TFMOT.
@needs_tfmot
@pytest.mark.parametrize(
    ("backend", "number", "tests"),
    [("tensorflow", 24, "test"), ("jax", 3, "trained_model or decay")],
    ids=["tensorflow", "jax"],
)
@pytest.mark.thorough("imports TFMOT; that schedules are translated is tested above without it")
def test_with_tfmot(backend, number, tests):
    pytest.importorskip(backend)
    examples = f"{FOLDER.parent / 'test_docstrings.py'}::test_example[tf_lottery.interop.tfmot"
    files = [FOLDER / "tfmot_cases.py", f"{examples}.pruning_callback]", f"{examples}.ticket]"]
    found = run(
        ["-m", "pytest", "-q", "-p", "no:xdist", "--thorough", *map(str, files), "-k", tests],
        KERAS_BACKEND=backend,
    )
    assert found.strip().splitlines()[-1].startswith(f"{number} passed")
