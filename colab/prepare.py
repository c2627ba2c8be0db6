"""Writes the badge and the install cell of every notebook, and runs notebooks to store outputs.

    python colab/prepare.py                    # badges and install cells
    python colab/prepare.py quickstart [...]   # also runs these, whole

Both name the repository, whose address is in `setup.cfg` alone. Outputs are stored without what
programs write to stderr.
"""

import configparser
import os
import pathlib
import re
import sys

import nbformat

FOLDER = pathlib.Path(__file__).parent
# What terminals take for bold, slanted and colored letters.
STYLE = re.compile(r"\x1b\[[0-9;]*m")
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
INSTALL = """import importlib.util

# The package, or the repository where the package is not published. Colab's runtime 2026.01 has
# Keras 3.10.0 and TensorFlow 2.19.0: this replaces Keras by the newest, since 3.12 is needed, and
# leaves TensorFlow as it is. If Keras had been imported before, restart the runtime.
if importlib.util.find_spec("tf_lottery") is None:
    %pip install -q "tf_lottery[all]" || pip install -q "tf_lottery[all] @ git+{address}"
"""


def repository():
    """Returns the address of the repository."""
    settings = configparser.ConfigParser()
    settings.read(FOLDER.parent / "setup.cfg")
    return settings["metadata"]["url"]


def badge(path):
    """Returns the line that opens a notebook in Colab.

    Args:
        path: Path of the notebook.
    """
    name = repository().removeprefix("https://github.com/")
    target = f"https://colab.research.google.com/github/{name}/blob/main/colab/{path.name}"
    return f"[![Open in Colab]({BADGE})]({target})"


def prepare(notebook, path):
    """Sets the badge and the install cell of a notebook.

    Args:
        notebook: The notebook, which is changed.
        path: Path of its file.
    """
    title, _, text = notebook.cells[0].source.partition("\n\n")
    text = re.sub(r"^\[!\[Open in Colab\].*\n\n", "", text)
    notebook.cells[0].source = f"{title}\n\n{badge(path)}\n\n{text}"
    install = next(cell for cell in notebook.cells if cell.cell_type == "code")
    install.source = INSTALL.format(address=repository()).rstrip()


def run(notebook):
    """Runs a notebook in a new folder, and keeps what it prints and draws."""
    import tempfile

    from nbclient import NotebookClient

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": folder}})
        client.create_kernel_manager().kernel_spec.argv[0] = sys.executable
        client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            for output in cell.outputs:
                if "text" in output:
                    output.text = STYLE.sub("", output.text)


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        prepare(notebook, path)
        if path.stem in sys.argv[1:]:
            run(notebook)
        path.write_text(nbformat.writes(notebook, indent=1) + "\n")
