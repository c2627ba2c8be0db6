"""Runs the examples of the README and the documentation, and builds the site."""

import ast
import contextlib
import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys

import keras
import numpy as np
import pytest

import tf_lottery as tfl
import tf_lottery_cli

ROOT = pathlib.Path(tfl.__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
WORDS_OF_README = 600
# Their examples write TFLite files.
EXPORTING = (
    "README.md",
    "docs/quickstart.md",
    "docs/guides/compress.md",
    "docs/guides/export.md",
    "docs/guides/microcontrollers.md",
    "docs/guides/quantization.md",
)
NUM_DIGITS = 80
# What is not run.
UNTIMED = ("compress", "export_tflite", "inspect_tflite", "sparse_inference_report")


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def code_of(page):
    return "\n".join(BLOCK.findall(page.read_text()))


# Pages that train longest, by what guards them in the quick tier.
SLOW = {
    "docs/choose.md": "the guides that it leads to run in the quick tier",
    "docs/guides/channels.md": "tests/structured and tests/export/compaction",
    "docs/guides/compress.md": "tests/compression",
    "docs/guides/continuous_sparsification.md": "tests/callbacks and the contract",
    "docs/guides/controls.md": "tests/controls and tests/analysis",
    "docs/guides/lottery_tickets.md": "tests/callbacks, the quickstart and the contract",
    "docs/guides/resume.md": "the contract, and the command's interrupted trainings",
    "docs/guides/retraining.md": "tests/retrain and the contract",
}
# Pages whose code runs in a process of its own: what it needs, and its environment.
IN_A_PROCESS = {
    "docs/guides/hosts.md": (
        "jax",
        {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
    ),
    "docs/recipes/keras_hub.md": ("keras_hub", {}),
}
WITH_CODE = [page for page in (README, *PAGES) if code_of(page)]
every_page_with_code = pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
every_page_to_run = pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.thorough(SLOW[name])] if name in SLOW else [])
        for page in WITH_CODE
        for name in [name_of(page)]
        if name not in IN_A_PROCESS
    ],
    ids=name_of,
)


class Report(str):
    """Stands for the report of what is not run."""

    def plot(self, path):
        pass

    save = plot


@contextlib.contextmanager
def eager_training():
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def few_digits(return_X_y):  # noqa: N803
    assert return_X_y
    rng = np.random.default_rng(0)
    return rng.uniform(0, 16, (1400 + NUM_DIGITS, 64)), rng.integers(0, 10, 1400 + NUM_DIGITS)


def short(fit):
    """Returns `fit` that trains on few examples, so that an epoch has two steps."""

    def fit_short(model, x=None, y=None, batch_size=None, **options):
        if isinstance(x, keras.utils.PyDataset):
            return fit(model, x, y, **options)
        return fit(model, x[:NUM_DIGITS], y[:NUM_DIGITS], batch_size=40, **options)

    return fit_short


@pytest.mark.filterwarnings("ignore")
@every_page_to_run
def test_code_runs_on_few_examples(page, tmp_path, monkeypatch, capsys):
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sklearn_datasets, "load_digits", few_digits)
    monkeypatch.setattr(keras.Model, "fit", short(keras.Model.fit))
    for name in UNTIMED:
        for module in (tfl, tfl.export):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda *args, **kwargs: Report())
    with eager_training():
        exec(compile(code_of(page), name_of(page), "exec"), {"__name__": "example"})


@pytest.mark.thorough("tests/export writes such files; the code runs without them, and shorter")
@pytest.mark.parametrize("name", EXPORTING)
def test_code_runs_as_pasted(name, tmp_path):
    assert "Milliseconds" in output_of(name, tmp_path)


def output_of(name, folder, **environment):
    """Returns what the code of a page prints in a process of its own."""
    script = folder / "pasted.py"
    script.write_text(code_of(ROOT / name))
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough("tests/test_hosts.py, tests/structured; that names exist, the test below")
@pytest.mark.parametrize("name", IN_A_PROCESS)
def test_code_runs_in_a_process(name, tmp_path):
    needed, environment = IN_A_PROCESS[name]
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"needs {needed}")
    assert output_of(name, tmp_path, **environment)


@every_page_with_code
def test_names_of_the_library_exist(page):
    tree = ast.parse(code_of(page))
    assert tree.body
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and dotted(node).startswith("tfl."):
            value = tfl
            for name in dotted(node).split(".")[1:]:
                value = getattr(value, name)


def dotted(node):
    if isinstance(node, ast.Name):
        return node.id
    inside = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inside}.{node.attr}" if inside else ""


def test_commands_are_understood(monkeypatch):
    parser = tf_lottery_cli._make_parser()
    commands = [
        line.split("#")[0].strip()
        for page in (README, *PAGES)
        for block in SHELL.findall(page.read_text())
        for line in block.replace("\\\n", " ").splitlines()
    ]
    commands = [shlex.split(line) for line in commands if line.startswith("tf-lottery ")]
    assert len(commands) > 20
    # The files are those of the reader.
    monkeypatch.setattr(pathlib.Path, "exists", lambda path: True)
    for command in commands:
        try:
            parser.parse_args(command[1 : command.index(">") if ">" in command else None])
        except SystemExit as end:
            assert end.code == 0, command


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    listed = re.findall(r"(\S+\.md)$", nav, re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


@pytest.mark.parametrize(
    "page", [*sorted(ROOT.glob("*.md")), ROOT / "colab" / "README.md", *PAGES], ids=name_of
)
def test_links_lead_to_files(page):
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        if not link.startswith(("https://", "http://")):
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_scripts_for_clusters_are_read():
    folder = DOCS / "guides" / "hosts"
    program = (folder / "train.py").read_text()
    ast.parse(program)
    subprocess.run(["bash", "-n", folder / "slurm.sh"], check=True)
    for name in ("slurm.sh", "kubernetes.yaml"):
        text = (folder / name).read_text()
        for variable in ("COORDINATOR", "NUM_PROCESSES", "PROCESS_ID", "FOLDER"):
            assert variable in text, f"{name} sets no {variable}"
            assert f'"{variable}"' in program
    yaml = pytest.importorskip("yaml")
    kinds = [one["kind"] for one in yaml.safe_load_all((folder / "kubernetes.yaml").read_text())]
    assert kinds == ["Service", "Job"]


def test_pictures_are_small_and_shown():
    pictures = sorted((DOCS / "pictures").glob("*"))
    shown = "\n".join(page.read_text() for page in PAGES)
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 60_000
        assert f"pictures/{picture.name})" in shown


def test_examples_for_contributors_exist():
    rows = re.findall(r"^\| an? .*", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    assert len(rows) > 5
    for row in rows:
        *_, example, tested, _ = row.split("|")
        assert (ROOT / "tf_lottery" / example.strip().strip("`")).exists(), row
        assert (ROOT / "tests" / re.search(r"`(\S+)`", tested)[1]).exists(), row


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def texts_of_the_code():
    """Yields the texts in the code, with `...` between their parts."""
    for folder in ("tf_lottery", "tf_lottery_cli"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
                    yield "...".join(parts)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_messages_in_troubleshooting_are_those_of_the_code():
    texts = [" ".join(text.split()) for text in texts_of_the_code()]
    rows = re.findall(r"^\| (.*?) \| ", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    # Those of other programs end with its name.
    messages = [row for row in rows if row not in ("Message", "---") and not row.endswith(")")]
    assert len(messages) > 30
    for message in messages:
        words = re.compile(".*".join(re.escape(part.strip()) for part in message.split("...")))
        assert any(words.search(text) for text in texts), message


def test_readme_of_the_package_links_to_the_repository():
    spec = importlib.util.spec_from_file_location("package", ROOT / "setup.py")
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    links, published = (LINK.findall(text) for text in (README.read_text(), package.description()))
    assert len(published) == len(links) > 10
    assert all(link.startswith("https://") for link in published)
    assert not any("(" in link or "/main//" in link for link in published)


def test_readme_is_short():
    text = re.sub(r"```.*?```", "", README.read_text(), flags=re.DOTALL)
    assert len(text.split()) <= WORDS_OF_README


def test_every_public_package_has_a_reference():
    shown = {name.partition(".")[0] for name in references()}
    packages = {
        alias.name
        for node in ast.parse((ROOT / "tf_lottery" / "__init__.py").read_text()).body
        if isinstance(node, ast.ImportFrom) and node.module == "tf_lottery"
        for alias in node.names
    }
    # `import tf_lottery` does not import the experiments.
    assert shown == {*packages, "", "experiments"}


def references():
    """Returns the packages, modules and objects in `tf_lottery` that the reference shows."""
    texts = "\n".join(page.read_text() for page in (DOCS / "api").rglob("*.md"))
    return set(re.findall(r"<!-- api: tf_lottery\.?([\w.]*)(?:, all members of \w+)? -->", texts))


def names_in_experiments():
    """Yields what users get there: packages, settings, what runs them, what examples import."""
    folder = ROOT / "tf_lottery" / "experiments"
    yield from (f"experiments.{path.parent.name}" for path in folder.glob("*/__init__.py"))
    for path in folder.glob("*.py"):
        for found in re.findall(r"^(?:class|def) (run_\w+|\w+Settings)\b", path.read_text(), re.M):
            yield f"experiments.{path.stem}.{found}"
    examples = [*PAGES, *DOCS.rglob("*.py"), *(ROOT / "colab").glob("*.ipynb")]
    text = "\n".join(path.read_text() for path in examples)
    for module, names in re.findall(r"from tf_lottery\.(experiments[\w.]*) import ([\w, ]+)", text):
        yield from (f"{module}.{name}" for name in names.split(", "))


def test_experiments_have_a_reference():
    shown, expected = references(), set(names_in_experiments())
    assert len(expected) > 20
    for name in expected:
        assert name in shown or name.rpartition(".")[0] in shown, name


def test_what_is_shown_alone_has_an_example():
    for name in references():
        module, _, found = f"tf_lottery.{name}".rpartition(".")
        if name and not importlib.util.find_spec(module).submodule_search_locations:
            assert ">>> " in getattr(importlib.import_module(module), found).__doc__, name


@pytest.mark.thorough("that pages are listed, links lead to files and code runs, the tests above")
def test_site_builds_without_warnings(tmp_path):
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip('needs `pip install ".[docs]"`')
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {page.parent.name for page in tmp_path.rglob("index.html")}
    assert {"quickstart", "cli", "callbacks"} <= pages
    assert "tf-lottery retrain" in (tmp_path / "cli" / "index.html").read_text()
    assert "RigL" in (tmp_path / "api" / "callbacks" / "index.html").read_text()
