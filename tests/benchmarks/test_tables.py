import pathlib
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import tables

    yield tables
    for name in (
        "tables",
        "cifar10_tables",
        "export_tables",
        "retraining_tables",
        "markdown",
        "record",
    ):
        sys.modules.pop(name, None)


def test_readme_shows_the_recorded_results(tables):
    text = tables.README.read_text()
    assert tables.fill(text) == text


def test_every_table_has_its_place(tables):
    text = tables.README.read_text()
    for make in tables.TABLES:
        assert text.count(f"<!-- {make.__name__} -->") == 1
    assert text.count("<!-- end -->") == len(tables.TABLES)


def test_old_numbers_are_replaced(tables):
    text = tables.README.read_text().replace("21.1%", "99.9%")
    assert "21.1%" in tables.fill(text)
