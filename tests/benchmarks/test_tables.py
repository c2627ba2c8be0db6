import pytest


@pytest.fixture
def tables():
    import tables

    return tables


def test_pages_show_the_recorded_results(tables):
    for page in tables.PAGES:
        text = page.read_text()
        assert tables.fill(text) == text, f"run `python benchmarks/tables.py` for {page.name}"


def test_every_table_has_its_place(tables):
    text = "\n".join(page.read_text() for page in tables.PAGES)
    for make in tables.TABLES:
        assert text.count(f"<!-- {make.__name__} -->") == 1


def test_old_numbers_are_replaced(tables):
    text = tables.PAGES[0].read_text().replace("21.1%", "99.9%")
    assert "21.1%" in tables.fill(text)


def test_readme_shows_what_the_demonstration_printed(tables):
    import record

    printed = record.read("compare_digits")["results"]["demo"]["printed"]
    lines = [line.rstrip() for line in printed]
    assert "\n".join(lines) in (tables.ROOT / "README.md").read_text()
