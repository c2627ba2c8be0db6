"""Checks the keys and values of a sweep."""

import types
import typing

from tf_lottery.checks import nearest

_EXPECTED = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}
# Integers that may be 0.
_FROM_ZERO = ("seed", "rewind_to_step")


def check_key(name: str, value, choices: tuple, *, is_key: bool = False) -> None:
    """Raises a `ValueError` that names the nearest of `choices` if a name is not one of them.

    Args:
        name: String, what is named: a key of the sweep, or `"setting"` for the keys themselves.
        value: The name.
        choices: Tuple of the names allowed.
        is_key: Whether `value` is a key. Defaults to `False`.

    Raises:
        ValueError: If the name is unknown.

    Example:

    >>> check_key("method", "rigll", ("rigl", "set"))
    Traceback (most recent call last):
    ValueError: Key `method` of a sweep must be one of rigl, set; did you mean 'rigl'? Received: ...
    """
    if isinstance(value, str) and value in choices:
        return
    near = nearest(str(value), list(choices))
    hint = f"; did you mean {near[0]!r}?" if near else "."
    what = "Keys of a sweep" if is_key else f"Key `{name}` of a sweep"
    raise ValueError(
        f"{what} must be one of {', '.join(choices)}{hint} "
        f"Received: {value if is_key else f'{name}={value!r}'}"
    )


def convert(key: str, value, annotation):
    """Returns a value of a sweep in the type of its setting.

    YAML reads numbers such as `1e-3` as texts, which are accepted too.

    Args:
        key: String.
        value: What the file holds.
        annotation: The type of the setting.

    Raises:
        ValueError: If the value is of another type, or a number is outside its range.

    Example:

    >>> convert("learning_rate", "1e-3", float), convert("augment", "flip,shift", tuple)
    (0.001, ('flip', 'shift'))
    >>> convert("drops", "0.3,0.6", tuple[float, ...])
    (0.3, 0.6)
    """
    # Every run has a seed; of other settings the default is taken.
    if value is None and key != "seed":
        return None
    kind = _kind(annotation)
    if kind is tuple:
        return _names(key, value)
    if typing.get_origin(kind) is tuple:
        parts = value.split(",") if isinstance(value, str) else [value]
        return tuple(convert(key, part, typing.get_args(kind)[0]) for part in parts)
    if kind is float and isinstance(value, str):
        value = _number(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        # YAML reads 2:4 as 2 times 60 plus 4.
        quotes = ' in quotes, as in `pattern: "2:4"`' if kind is str else ""
        raise ValueError(
            f"Key `{key}` of a sweep must be {_EXPECTED[kind]}{quotes}. Received: {key}={value!r}"
        )
    least = 0 if key in _FROM_ZERO else 1
    if kind is int and value < least:
        raise ValueError(
            f"Key `{key}` of a sweep must be an integer >= {least}. Received: {key}={value!r}"
        )
    return value


def text_of(value) -> str:
    """Returns a value of a setting as a part of a folder's name.

    Args:
        value: The value.

    Example:

    >>> [text_of(value) for value in (0.1, ("flip", "shift"), ())]
    ['0.1', 'flip-shift', 'none']
    """
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return "-".join(map(text_of, value)) or "none" if isinstance(value, tuple) else str(value)


def _kind(annotation):
    """Returns the type in an annotation such as `float | None`."""
    if isinstance(annotation, types.UnionType):
        return next(t for t in typing.get_args(annotation) if t is not type(None))
    return annotation


def _number(text):
    try:
        return float(text)
    except ValueError:
        return text


def _names(key, value):
    """Returns names that are separated by commas, or in a list, as a tuple; `"none"` is no name."""
    names = [n.strip() for n in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
        raise ValueError(
            f"Key `{key}` of a sweep must be names separated by commas. Received: {key}={value!r}"
        )
    return () if names == ["none"] else tuple(names)
