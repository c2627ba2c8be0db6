"""Imports the benchmarks, which are scripts and no package."""

import pathlib
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable_benchmarks(monkeypatch, tmp_path):
    """Makes the scripts importable, and a folder for what they write; forgets them afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.chdir(tmp_path)
    yield
    for name, module in list(sys.modules.items()):
        if pathlib.Path(getattr(module, "__file__", None) or "").parent == BENCHMARKS:
            del sys.modules[name]
