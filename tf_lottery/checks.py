"""Argument checks that are used throughout the library."""

import difflib
import math
import numbers


def positive_integer(name, value):
    """Returns `value`, or raises a `ValueError` if it is not an integer above 0.

    Args:
        name: String, the argument's name for the message.
        value: The value to check.
    """
    return _integer(name, value, 1, "> 0")


def natural_number(name, value):
    """Returns `value`, or raises a `ValueError` if it is not an integer >= 0.

    Args:
        name: String, the argument's name for the message.
        value: The value to check.
    """
    return _integer(name, value, 0, ">= 0")


def _integer(name, value, least, bound):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(
            f"Argument `{name}` must be an integer {bound}. Received: {name}={value!r}"
        )
    return int(value)


def fraction(name, value):
    """Returns `value` as a float, or raises a `ValueError` if it is not a number in [0, 1).

    Args:
        name: String, the argument's name for the message.
        value: The value to check.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"Argument `{name}` must be a number. Received: {name}={value!r}")
    if not 0 <= value < 1:
        raise ValueError(f"Argument `{name}` must be in [0, 1). Received: {name}={value}")
    return float(value)


def number_above(name, value, least, inclusive=False):
    """Returns `value`, or raises a `ValueError` if it is not a finite number above a bound.

    Args:
        name: String, the argument's name for the message.
        value: The value to check.
        least: Float, the bound.
        inclusive: Whether the bound itself is allowed. Defaults to `False`.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    fits = is_number and (least < value < math.inf or (inclusive and value == least))
    if not fits:
        sign = ">=" if inclusive else ">"
        raise ValueError(
            f"Argument `{name}` must be a number {sign} {least}. Received: {name}={value!r}"
        )
    return float(value)


def choice(name, value, choices):
    """Returns `value`, or raises a `ValueError` if it is not one of `choices`.

    Args:
        name: String, the argument's name for the message.
        value: The value to check.
        choices: Tuple of the values allowed.
    """
    if value not in choices:
        raise ValueError(f"Argument `{name}` must be one of {choices}. Received: {name}={value!r}")
    return value


def named_function(name, value, functions):
    """Returns `value` if it is a function, or the function it names, or raises a `ValueError`.

    Args:
        name: String, the argument's name for the message.
        value: The value to check.
        functions: Dict of names to functions.
    """
    if callable(value):
        return value
    if isinstance(value, str) and value in functions:
        return functions[value]
    raise ValueError(
        f"Argument `{name}` must be a function or one of {sorted(functions)}. "
        f"Received: {name}={value!r}"
    )


def nearest(name, choices):
    """Returns a list of up to three of `choices` whose spelling is closest to a name.

    A path is as close as the closest of its parts.

    Args:
        name: String.
        choices: List of strings, names or paths.

    Example:

    >>> nearest("ouput", ["net/hidden/kernel", "net/output/kernel"])
    ['net/output/kernel']
    """

    def similarity(path):
        parts = {path, *path.split("/")}
        return max(difflib.SequenceMatcher(None, name.lower(), p.lower()).ratio() for p in parts)

    ranked = sorted(((similarity(path), path) for path in dict.fromkeys(choices)), reverse=True)
    return [path for ratio, path in ranked[:3] if ratio >= 0.6]
