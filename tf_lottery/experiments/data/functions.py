"""Reads examples from a function of the user's."""

import importlib
import os
import sys

import numpy as np

from tf_lottery.data_sets import gather, raw_batches


def is_function(source):
    """Returns whether a text has the form `MODULE:FUNCTION`.

    Args:
        source: String.

    Example:

    >>> is_function("my_data.flowers:load"), is_function("data.npz")
    (True, False)
    """
    module, _, name = source.rpartition(":")
    return all(part.isidentifier() for part in (*module.split("."), name))


def call_function(source):
    """Returns the parts that a function returns, in memory.

    Args:
        source: String, `MODULE:FUNCTION`.

    Returns:
        List of one to three tuples `(x, y, sample_weight)`.

    Raises:
        ValueError: If there is no such function, it fails, or it returns something else.
    """
    module, _, name = source.rpartition(":")
    function = getattr(import_module(module), name, None)
    if not callable(function):
        raise ValueError(
            f"DATA must name a function of the module. Received: {source!r}, but {module!r} "
            f"has no function {name!r}"
        )
    try:
        found = function()
    except Exception as error:  # The user's code may fail in any way.
        raise ValueError(f"DATA {source!r} has failed: {type(error).__name__}: {error}") from error
    is_several = isinstance(found, tuple) and len(found) in (2, 3) and all(map(_is_part, found))
    return [_read(source, part) for part in (found if is_several else (found,))]


def _is_part(value):
    """Returns whether a value is a pair of arrays or a data set, and not one array."""
    if isinstance(value, tuple):
        return len(value) in (2, 3)
    return raw_batches("data", value) is not None


def _read(source, part):
    if isinstance(part, tuple) and len(part) in (2, 3):
        x, *others = (*part, None)[:3]
        return x, *(None if other is None else np.asarray(other) for other in others)
    if part is None or isinstance(part, tuple):
        raise ValueError(
            "DATA must be a function that returns arrays `(x, y)`, a data set of such batches, or "
            "a tuple of these for training, validation and test. "
            f"Received: {source!r}, which returns {type(part).__name__}"
        )
    batches = raw_batches("data", part)
    if batches is None:
        return part, None, None
    try:
        return gather("data", batches)
    except ValueError as error:
        raise ValueError(
            "DATA must be a function whose data sets have batches, as of `dataset.batch(32)`. "
            f"Received: {source!r} ({error})"
        ) from error


def import_module(name):
    """Imports a module of the current folder, or an installed one.

    Args:
        name: String.

    Raises:
        ValueError: If it cannot be imported.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except Exception as error:  # The module's own code may fail in any way.
        raise ValueError(
            "a Python module must be one that can be imported. "
            f"Received: {name!r} ({type(error).__name__}: {error})"
        ) from error
