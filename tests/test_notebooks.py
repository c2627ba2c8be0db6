import ast
import inspect
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

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


@pytest.fixture
def fast_kernel(monkeypatch):
    """Environment of the kernel: fast mode, with the package importable if not installed."""
    monkeypatch.setenv("TF_LOTTERY_FAST", "1")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def code_cells(path):
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


def parse(cell):
    """Returns the syntax tree of a cell, with magic commands translated into calls."""
    from IPython.core.inputtransformer2 import TransformerManager

    return ast.parse(TransformerManager().transform_cell(cell.source))


def names_of_the_library(trees):
    """Returns a dict of local names to what a notebook imports from the library."""
    found = {}
    for node in (node for tree in trees for node in ast.walk(tree)):
        modules = [node.module] if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        if modules and all(module.startswith("tf_lottery") for module in modules):
            exec(ast.unparse(node), found)
    return found


def resolve(node, names):
    """Returns the object of a dotted name of the library, `None` for other expressions."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    parent = resolve(node.value, names) if isinstance(node, ast.Attribute) else None
    return None if parent is None else getattr(parent, node.attr)


def check_calls(trees):
    """Checks the names and arguments of all calls of the library; returns their number."""
    names, calls = names_of_the_library(trees), 0
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Attribute):
            resolve(node, names)
        if isinstance(node, ast.Call) and resolve(node.func, names) is not None:
            arguments = {keyword.arg: keyword.value for keyword in node.keywords}
            if None not in arguments and not any(isinstance(a, ast.Starred) for a in node.args):
                inspect.signature(resolve(node.func, names)).bind(*node.args, **arguments)
                calls += 1
    return calls


def test_there_are_notebooks():
    assert NOTEBOOKS


@every_notebook
def test_is_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@every_notebook
def test_installs_only_what_is_missing(path):
    install = code_cells(path)[0].source
    assert re.search(r'find_spec\("tf_lottery"\) is None:\n    %pip install', install)


@every_notebook
def test_code_compiles_and_fits_the_library(path):
    trees = [parse(cell) for cell in code_cells(path)]
    for tree in trees:
        compile(tree, path.name, "exec")
    assert check_calls(trees) >= 4


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("tfl.sparsify(model, sparsity=0.5)", None),
        ("tfl.sparsify(model, sparsty=0.5)", TypeError),
        ("tfl.callbacks.RigL(*a).save(1, 2, 3)", None),
        ("print(tfl.callbacks.Rigl)", AttributeError),
    ],
)
def test_what_does_not_fit_the_library_is_found(code, error):
    trees = [ast.parse(f"import tf_lottery as tfl\n{code}")]
    if error is None:
        check_calls(trees)
        return
    with pytest.raises(error):
        check_calls(trees)


@pytest.mark.thorough("a process of its own trains in each notebook")
@every_notebook
def test_runs(path, fast_kernel, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    manager = client.create_kernel_manager()
    # Uses the Python of the tests, not a kernel that the user installed.
    manager.kernel_spec.argv[0] = sys.executable
    client.execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
