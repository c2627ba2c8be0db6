"""Results that print as a table."""

import dataclasses
import functools
import inspect
import io
import os

_LONGEST = 100


class Printable:
    """Base class of objects with a method `__rich__`: `print` shows the same text as rich."""

    def __str__(self):
        from rich.console import Console

        # Writing to a string gives plain text without colors, even in Jupyter.
        console = Console(file=io.StringIO(), width=110, force_jupyter=False)
        console.print(self)
        return console.file.getvalue()


class ShowsArguments:
    """Base class of objects whose `repr` shows the arguments that differ from the defaults."""

    _arguments: tuple[tuple, dict]

    def __new__(cls, *args, **kwargs):
        """Creates the object, and stores its arguments."""
        instance = super().__new__(cls)
        # The attributes of an object can differ from its arguments.
        instance._arguments = (args, kwargs)
        return instance

    def given_arguments(self) -> dict:
        """Returns a dict of the arguments that the object was created with."""
        args, kwargs = self._arguments
        names = [parameter.name for parameter in self._parameters()]
        return {**dict(zip(names, args, strict=False)), **kwargs}

    def _parameters(self):
        return list(inspect.signature(type(self).__init__).parameters.values())[1:]

    def __repr__(self):
        defaults = {parameter.name: parameter.default for parameter in self._parameters()}
        given = self.given_arguments()
        changed = {n: v for n, v in given.items() if not _equal(v, defaults.get(n))}
        return short_repr(type(self).__name__, changed)


def short_repr(name, arguments):
    """Returns a call with its arguments as a short line. Long values are shown as their types.

    Args:
        name: String, the name of the function or class.
        arguments: Dict of names to values.

    Example:

    >>> short_repr("RigL", {"frequency": 5, "scores": np.abs})
    'RigL(frequency=5, scores=absolute)'
    """
    values = (f"{key}={_short(value)}" for key, value in arguments.items())
    return f"{name}({', '.join(values)})"


def plain(argument):
    """Returns an argument in a form that JSON can store and that every process writes alike.

    Functions are named, with the arguments that `functools.partial` sets; other objects become
    their types.

    Args:
        argument: Anything.

    Example:

    >>> import functools
    >>> plain(functools.partial(np.mean, axis=0)), plain({"output": 0.5})
    ('mean(axis=0)', {'output': 0.5})
    """
    if argument is None or isinstance(argument, str | int | float):
        return argument
    if isinstance(argument, dict):
        return {key: plain(value) for key, value in argument.items()}
    if isinstance(argument, functools.partial):
        positional = {str(i): value for i, value in enumerate(argument.args)}
        return short_repr(plain(argument.func), {**positional, **argument.keywords})
    return _short(argument)


def _short(value):
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    # Arrays and models are long, and variables on a device are slow to show.
    if isinstance(value, str | int | float | dict | os.PathLike) or dataclasses.is_dataclass(value):
        text = repr(value)
        if len(text) <= _LONGEST:
            return text
    return f"<{type(value).__name__}>" if value is not None else "None"


def _equal(value, default):
    """Returns whether an argument is its default. Arrays, which compare elementwise, are not."""
    return value is default or (isinstance(value, str | int | float) and value == default)


def listed(names, most=3):
    """Returns names as one string, of many only the first ones.

    Args:
        names: Sequence of strings.
        most: Integer, how many names are shown. Defaults to `3`.

    Example:

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def plain_table(*headings, **options):
    """Returns a `rich.table.Table` that shows all text as it is.

    Names from files may contain square brackets, which `rich` takes for markup otherwise.

    Args:
        *headings: Strings.
        **options: Arguments of `rich.table.Table`.
    """
    from rich.table import Table
    from rich.text import Text

    class PlainTable(Table):
        def __rich_console__(self, console, options):
            for name in ("title", "caption"):
                if isinstance(text := getattr(self, name), str):
                    setattr(self, name, Text(text, style=f"table.{name}"))
            yield from super().__rich_console__(console, options.update(markup=False))

    return PlainTable(*headings, **options)


class FittingTable:
    """A table that leaves out its least important columns where there is no room for them.

    Args:
        make: Function of a tuple of columns that are left out. It returns the table.
        optional: Tuple of columns, in the order in which they are left out.

    Example:

    >>> from rich.console import Console
    >>> def make(left_out):
    ...     return plain_table(*[name for name in ("Bytes", "Notes") if name not in left_out])
    >>> Console(width=12).print(FittingTable(make, optional=("Notes",)))
    ┏━━━━━━━┓
    ┃ Bytes ┃
    ┡━━━━━━━┩
    └───────┘
    """

    def __init__(self, make, optional):
        self.make, self.optional = make, optional

    def __rich_console__(self, console, options):
        unlimited = options.update(width=10_000)
        for count in range(len(self.optional) + 1):
            table = self.make(self.optional[:count])
            if table.__rich_measure__(console, unlimited).maximum <= options.max_width:
                break
        yield table
