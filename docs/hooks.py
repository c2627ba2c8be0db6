"""Fills the pages of the site: references from the sources, pictures and the changelog.

A comment such as `<!-- api: tf_lottery.callbacks -->` becomes the reference of what the package
exports, `<!-- cli -->` the help of every command, `<!-- records -->` the table of recorded results,
and `<!-- include: FILE -->` a file's text. Members that a class inherits stand with the class that
has them; of a class whose bases are not exported, `<!-- api: PACKAGE, all members of CLASS -->`
shows them too.
"""

import ast
import configparser
import json
import pathlib
import re
import sys

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def exported_names(package):
    """Returns the public names of a package, without importing it.

    Args:
        package: String, the dotted name.
    """
    tree = ast.parse((ROOT.joinpath(*package.split(".")) / "__init__.py").read_text())
    found = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return [
        alias.asname
        for node in found
        for alias in node.names
        if alias.asname and not alias.asname.startswith("_") and not _is_module(node, alias)
    ]


def _is_module(node, alias):
    path = ROOT.joinpath(*node.module.split("."), alias.name)
    return path.is_dir() or path.with_suffix(".py").is_file()


def reference(package, whole=None):
    """Returns the reference of a package in Markdown.

    Args:
        package: String, the dotted name of a package or module. Of a module, all is shown.
        whole: String, the name of a class that is shown with the members it inherits. Defaults to
            `None`.
    """
    if not ROOT.joinpath(*package.split(".")).is_dir():
        return f"::: {package}"
    options = "\n    options: {inherited_members: true}"
    return "\n\n".join(
        f"::: {package}.{name}{options if name == whole else ''}"
        for name in sorted(exported_names(package), key=str.lower)
    )


def command_line():
    """Returns the help of every command in Markdown."""
    sys.path.insert(0, str(ROOT))
    try:
        from tf_lottery_cli import _make_parser

        commands = _make_parser()._subparsers._group_actions[0].choices
    finally:
        sys.path.remove(str(ROOT))
    return "\n\n".join(
        f"## tf-lottery {name}\n\n```text\n{parser.format_help()}```"
        for name, parser in commands.items()
    )


def records():
    """Returns a table of the recorded results in Markdown."""
    lines = ["| record | script | about | made |", "| --- | --- | --- | --- |"]
    for path in sorted(RESULTS.glob("*.json")):
        found, script = json.loads(path.read_text()), script_of(path)
        about = ast.get_docstring(ast.parse(script.read_text())).partition("\n")[0]
        made = f"{found['date']}, Keras {found['versions']['keras']}, {found['backend']}"
        lines.append(f"| `{path.name}` | `{script.name}` | {about} | {made} |")
    return "\n".join(lines)


def script_of(record):
    """Returns the path of the script that writes a record.

    Args:
        record: Path of the record, named after the script, and perhaps a data set or backend.
    """
    parts = record.stem.split("_")
    names = ("_".join(parts[:count]) for count in range(len(parts), 0, -1))
    scripts = (RESULTS.parent / f"{name}.py" for name in names)
    return next(script for script in scripts if script.exists())


def repository():
    """Returns the address of the repository, which `setup.cfg` has."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    return settings["metadata"]["url"]


def on_files(files, config):
    """Adds the pictures of the recorded results to the site."""
    for path in sorted(RESULTS.glob("*.png")):
        file = File.generated(config, f"pictures/{path.name}", abs_src_path=str(path))
        files.append(file)
    return files


def on_page_markdown(markdown, page, config, files):
    """Replaces the comments of a page, and the addresses of pictures."""
    del page, config, files
    api = r"<!-- api: ([\w.]+)(?:, all members of (\w+))? -->"
    markdown = re.sub(api, lambda match: reference(*match.groups()), markdown)
    markdown = re.sub(
        r"<!-- include: (\S+) -->", lambda match: (ROOT / match[1]).read_text(), markdown
    )
    if "<!-- records -->" in markdown:
        markdown = markdown.replace("<!-- records -->", records())
    if "<!-- cli -->" in markdown:
        markdown = markdown.replace("<!-- cli -->", command_line())
    markdown = re.sub(r"\]\(([^)]*)\.\./benchmarks/results/", r"](\1pictures/", markdown)
    return re.sub(r"\]\((?:\.\./)+(colab/)", rf"]({repository()}/blob/main/\1", markdown)
