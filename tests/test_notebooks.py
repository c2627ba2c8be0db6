import ast
import importlib.util
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

MAX_BYTES = 200_000
# What a notebook needs beside the package.
NEEDED = {"keras_hub_transformer.ipynb": "keras_hub"}

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


@pytest.fixture
def prepare():
    """The script that writes badges and install cells."""
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "colab" / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
def test_outputs_can_be_read_on_the_web(path):
    assert path.stat().st_size < MAX_BYTES
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    assert all(output.output_type != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)
    assert not re.search(r"/(tmp|work|home|opt)/", str(outputs))


@every_notebook
def test_opens_and_installs_where_people_open_it(path, prepare):
    written = nbformat.read(path, as_version=4)
    prepare.prepare(written, path)
    assert written == nbformat.read(path, as_version=4), "run `python colab/prepare.py`"
    assert path.name in prepare.badge(path)
    assert re.search(r"install -q .* \|\| .*git\+https://github.com/", code_cells(path)[0].source)


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
    needed = NEEDED.get(path.name)
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"needs `pip install {needed}`")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    manager = client.create_kernel_manager()
    # Uses the Python of the tests, not a kernel that the user installed.
    manager.kernel_spec.argv[0] = sys.executable
    client.execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
