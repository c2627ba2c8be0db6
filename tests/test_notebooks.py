import os
import pathlib
import re
import sys

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))


@pytest.fixture
def fast_kernel(monkeypatch):
    """Environment of the kernel: the fast mode, and the package even if not installed."""
    monkeypatch.setenv("TF_LOTTERY_FAST", "1")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_is_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_installs_only_what_is_missing(path):
    notebook = nbformat.read(path, as_version=4)
    install = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert re.search(r'find_spec\("tf_lottery"\) is None:\n    %pip install', install)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_runs(path, fast_kernel, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    manager = client.create_kernel_manager()
    # The Python of the tests, whatever kernels the user has installed.
    manager.kernel_spec.argv[0] = sys.executable
    client.execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
