"""Gives the README, as the package's description, links that work outside of the repository."""

import configparser
import pathlib
import re
import tempfile

import setuptools

ROOT = pathlib.Path(__file__).parent
LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:|#)([^)\s]+)\)")


def description():
    """Returns the README with absolute links, to the repository in `setup.cfg`."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    address = settings["metadata"]["url"]

    def absolute(match):
        image, text, path = match.groups()
        kind = "raw" if image else "blob" if pathlib.Path(path).suffix else "tree"
        return f"{image}{text}({address}/{kind}/main/{path})"

    return LINK.sub(absolute, (ROOT / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    # In `build`, as setuptools does it, files of an earlier version would get into the package.
    with tempfile.TemporaryDirectory() as folder:
        setuptools.setup(
            long_description=description(),
            long_description_content_type="text/markdown",
            options={"build": {"build_base": folder}, "egg_info": {"egg_base": folder}},
        )
