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
import pytest

import tf_lottery

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
