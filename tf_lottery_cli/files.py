"""Types of arguments that name files and folders, which are sought before Keras is imported."""

import argparse
import difflib
import os
import pathlib

_KINDS = {"a file": pathlib.Path.is_file, "a folder": pathlib.Path.is_dir}


def existing_file(text):
    """Returns `text` if it is the path of a file.

    Args:
        text: String.

    Raises:
        argparse.ArgumentTypeError: If there is no such file, with a similar name in its folder.

    Example:

    >>> ticket.save("ticket.npz")
    >>> existing_file("ticket.npz")
    'ticket.npz'
    """
    return _existing(text, "a file", "a folder")


def existing_folder(text):
    """Returns `text` if it is the path of a folder.

    Args:
        text: String.

    Raises:
        argparse.ArgumentTypeError: If there is no such folder, with a similar name beside it.

    Example:

    >>> existing_folder(".")
    '.'
    """
    return _existing(text, "a folder", "a file")


def existing_source(text):
    """Returns `text` if it is the path of a file or folder of data, or names data otherwise.

    Args:
        text: String.

    Raises:
        argparse.ArgumentTypeError: If it can only be a path, and nothing is there.

    Example:

    >>> existing_source("tfds:mnist"), existing_source("my_data:load")
    ('tfds:mnist', 'my_data:load')
    """
    if ":" not in text and not pathlib.Path(text).exists():
        message = _missing(pathlib.Path(text), "a file or folder", pathlib.Path.exists)
        raise argparse.ArgumentTypeError(message)
    return text


def did_you_mean(name, choices, folder=""):
    """Returns what an error says about the most similar one of some names, `""` if none is.

    Args:
        name: String.
        choices: Sequence of strings.
        folder: String or path, shown before the name. Defaults to `""`.

    Example:

    >>> did_you_mean("modle.keras", ["data.npz", "model.keras"], folder="runs")
    "; did you mean 'runs/model.keras'?"
    """
    near = difflib.get_close_matches(name, choices, 1)
    return f"; did you mean {str(pathlib.Path(folder, near[0]))!r}?" if near else ""


def _existing(text, kind, other):
    """Returns `text` if it is the path of something that is there, and not of the other kind."""
    path = pathlib.Path(text)
    if _KINDS[other](path):
        raise argparse.ArgumentTypeError(f"must be {kind}. Received: {text!r}, {other}")
    if not path.exists():
        raise argparse.ArgumentTypeError(_missing(path, kind, _KINDS[kind]))
    return text


def _missing(path, kind, is_meant):
    """Returns the message about a path where nothing is.

    Args:
        path: The path.
        kind: String, what must be there.
        is_meant: Function of a path, whether it is of that kind.
    """
    try:
        names = [name for name in os.listdir(path.parent) if is_meant(path.parent / name)]
    except OSError:
        names = []
    hint = did_you_mean(path.name, names, path.parent) or "."
    return f"must be {kind} that is there{hint} Received: {str(path)!r}"
