"""Checks the structure of the library: which module imports which."""

import ast
import functools
import graphlib
import pathlib
import re

import pytest

import tf_lottery

ROOT = pathlib.Path(tf_lottery.__file__).parents[1]
# Floors, the lowest first. A room is a folder or a module, without the underscores around its
# name. It may import only from lower floors.
FLOORS = [
    {"checks", "extras", "files", "hosts", "keras", "printable", "typing", "version"},
    {"data_sets", "optimizers", "sparsity"},
    {"layers"},
    {"model"},
    {"existing_zeros", "growth", "snapshot", "training", "tweaks"},
    {"network_weights", "scoring", "structured"},
    {"calibration", "kernel_ranking"},
    {"pruning", "strip", "ticket"},
    {"at_init", "callbacks", "controls", "export"},
    {"analysis", "interop", "retrain"},
    {"experiments"},
    {"compression"},
    {"tf_lottery"},
    {"tf_lottery_cli"},
    {"main"},
]
# Packages that the core must not need. These rooms and files are not part of the core.
HEAVY = {
    "ai_edge_litert",
    "ai_edge_quantizer",
    "flatbuffers",
    "jax",
    "matplotlib",
    "sklearn",
    "tensorboard",
    "tensorflow",
    "tensorflow_datasets",
    "tf_keras",
    "torch",
}
# These run in separate processes, and nothing imports them.
PROGRAMS = "tf_lottery.export.tasks."


@functools.cache
def sources():
    """Returns a dict of the names of all modules to their source text."""
    found = {}
    for folder in ("tf_lottery", "tf_lottery_cli"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = file.read_text()
    return found


def imports_of(source, at_module_level=False):
    """Returns the set of the modules that a module imports, by their full names.

    Args:
        source: String, the module's text.
        at_module_level: Whether imports inside functions are left out. Defaults to `False`.
    """
    found = set()
    pending = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # A name that is imported from a package can be a module.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & sources().keys() or {node.module}
        elif not (at_module_level and isinstance(node, ast.FunctionDef)):
            pending += ast.iter_child_nodes(node)
    return found


def own_imports():
    """Returns a dict of module names to the set of the library's modules that each imports."""
    return {name: imports_of(text) & sources().keys() for name, text in sources().items()}


def room_of(module):
    package, _, rest = module.partition(".")
    if package == "tf_lottery_cli" or not rest:
        return package
    return rest.partition(".")[0].strip("_")


@functools.cache
def floor_of(room):
    floors = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert len(floors) == 1, f"{room} must stand on one floor of FLOORS"
    return floors[0]


def is_downward(importer, imported):
    """Returns whether a module may import another one."""
    room, other = room_of(importer), room_of(imported)
    if room == other:
        return True
    return floor_of(other) < floor_of(room)


def test_no_module_imports_itself_through_others():
    order = graphlib.TopologicalSorter(own_imports())
    try:
        order.prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")


def test_imports_lead_downward():
    upward = [
        f"{importer} imports {imported}"
        for importer, modules in own_imports().items()
        for imported in modules
        if not is_downward(importer, imported)
    ]
    assert upward == []


def test_floors_name_what_is_there():
    rooms = {room_of(name) for name in sources()}
    assert set().union(*FLOORS) == rooms


@pytest.mark.parametrize(
    ("importer", "imported", "expected"),
    [
        ("tf_lottery.model.sparse_model", "tf_lottery.layers.part", True),
        ("tf_lottery.model.sparse_model", "tf_lottery.model.checks", True),
        ("tf_lottery.model.sparse_model", "tf_lottery.analysis.flops", False),
        ("tf_lottery.callbacks.rigl", "tf_lottery.at_init.snip", False),
        ("tf_lottery.experiments.lottery", "tf_lottery_cli.train", False),
    ],
)
def test_is_downward(importer, imported, expected):
    assert is_downward(importer, imported) == expected


def test_nothing_heavy_is_imported_with_the_library():
    heavy = {
        name: found
        for name, text in sources().items()
        if not name.startswith(PROGRAMS)
        if (found := HEAVY & {m.partition(".")[0] for m in imports_of(text, at_module_level=True)})
    }
    assert heavy == {}


def test_the_command_is_light():
    for name in ("tf_lottery_cli", *(m for m in sources() if m.startswith("tf_lottery_cli."))):
        imported = {
            module.partition(".")[0] for module in imports_of(sources()[name], at_module_level=True)
        }
        assert not imported & {"keras", "numpy", "rich", "tf_lottery"}, name


@pytest.mark.parametrize(
    ("source", "everywhere", "at_module_level"),
    [
        ("import tensorflow as tf", {"tensorflow"}, {"tensorflow"}),
        ("def f():\n    import torch", {"torch"}, set()),
        ("if True:\n    from matplotlib import figure", {"matplotlib"}, {"matplotlib"}),
        ("from tf_lottery import checks", {"tf_lottery.checks"}, {"tf_lottery.checks"}),
        ("from tf_lottery import sparsify", {"tf_lottery"}, {"tf_lottery"}),
    ],
)
def test_imports_of(source, everywhere, at_module_level):
    assert imports_of(source) == everywhere
    assert imports_of(source, at_module_level=True) == at_module_level


def test_nobody_reaches_through_the_wrapper():
    found = [
        f"{name}, line {number}"
        for name, text in sources().items()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(r"\.masked\.", line)
    ]
    assert found == []
