"""Everything that is saved can be loaded after `import tf_lottery`."""

import ast
import importlib.util
import json
import os
import pathlib
import runpy
import subprocess
import sys

import keras
import numpy as np
import pytest

import tf_lottery
from tf_lottery import callbacks, layers, retrain, sparsity

# Classes to derive from, which are not saved themselves.
BASES = {"Part", "Selection", "Pattern"}
ROOT = pathlib.Path(tf_lottery.__file__).parents[1]
# The objects that `import tf_lottery` registers, by the names that Keras saves.
CODE = """
import json, keras, tf_lottery
print(json.dumps(sorted(keras.saving.get_custom_objects())))
"""


def registrations():
    """Yields the names under which files of the library register their classes and functions."""
    for file in sorted((ROOT / "tf_lottery").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            for decorator in getattr(node, "decorator_list", []):
                text = ast.unparse(decorator)
                if "register_keras_serializable" in text:
                    package = ast.literal_eval(decorator.args[0])
                    name = decorator.args[1].value if len(decorator.args) > 1 else node.name
                    yield f"{package}>{name}"


def test_importing_the_library_registers_everything():
    expected = set(registrations())
    assert {"tf_lottery>SparseModel", "tf_lottery>Block"} <= expected
    # Which is imported faster than TensorFlow.
    backend = "jax" if importlib.util.find_spec("jax") else keras.backend.backend()
    finished = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    registered = set(json.loads(finished.stdout.splitlines()[-1]))
    assert expected - registered == set()


def test_running_the_package_runs_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tf_lottery", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("tf_lottery", run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out == f"tf-lottery {tf_lottery.__version__}\n"


# A public callback and arguments that it takes.
CALLBACKS = [
    callbacks.ActivationAnnealing(end_step=9, frequency=2),
    callbacks.ContinuousSparsification(2, rounds=1, directory=pathlib.Path("runs")),
    callbacks.DistillationStop(end_epoch=2),
    callbacks.EarlyBird(0.5, scores="random", initial={"kernel": np.ones((2, 3), "float32")}),
    callbacks.EarlyStopIteration((np.ones((2, 3)), np.zeros(2)), 5),
    callbacks.GhostSkipAnnealing(9, begin_step=3),
    callbacks.GradualMagnitudePruning(
        sparsity.Polynomial(0.8, end_step=9), 2, pattern=sparsity.NM(2, 4)
    ),
    callbacks.GradualMagnitudePruning(budget={"flops": 0.5}, begin_step=2),
    callbacks.IterativeMagnitudePruning(2, 3, rate={"output": 0.1, "": 0.2}, rewind="none"),
    callbacks.RigL(5, sparsity.Cosine(0.3, end_step=9), pattern="4x1"),
    callbacks.SET(grow_init="zeros"),
    callbacks.SNFS(5, momentum=0.5),
    callbacks.SparsityLogger(prefix="net/"),
]


@pytest.mark.parametrize("callback", CALLBACKS, ids=lambda callback: type(callback).__name__)
def test_callbacks_are_serialized_with_their_arguments(callback):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(callback)))
    assert config["registered_name"] == f"tf_lottery>{type(callback).__name__}"
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(callback)
    assert keras.saving.serialize_keras_object(copy) == config
    public = {name for name in vars(callback) if not name.startswith("_")}
    assert public == {name for name in vars(copy) if not name.startswith("_")}


def test_all_public_callbacks_are_tested():
    abstract = {"SparsityCallback", "DynamicSparseTraining", "TicketSearch"}
    public = {name for name in dir(callbacks) if isinstance(getattr(callbacks, name), type)}
    assert {type(callback).__name__ for callback in CALLBACKS} == public - abstract


def test_callbacks_of_one_training_are_not_serialized():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    callback = callbacks.RigL(sparse_model=tf_lottery.sparsify(model))
    with pytest.raises(ValueError, match="`sparse_model` must be `None`.*'sparse_sequential"):
        keras.saving.serialize_keras_object(callback)


def test_every_public_class_that_keras_can_save_is_registered():
    packages = (tf_lottery, callbacks, layers, sparsity, retrain)
    public = [value for package in packages for value in vars(package).values()]
    saved = {c for c in public if isinstance(c, type) and hasattr(c, "get_config")}
    names = {keras.saving.get_registered_name(c) for c in saved}
    assert len(names) > 25
    assert {name for name in names if not name.startswith("tf_lottery>")} <= BASES
