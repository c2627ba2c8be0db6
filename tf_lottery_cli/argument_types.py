"""Types of arguments that are numbers or lists, whose errors say what is expected."""

import argparse


def whole(least, most=None):
    """Returns the type of whole numbers from `least` to `most`.

    Args:
        least: Integer.
        most: Integer. Defaults to `None`: no bound.
    """
    bounds = f"from {least} to {most}" if most is not None else f">= {least}"

    def parse(text):
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"must be an integer {bounds}. Received: {text!r}")
        return value

    return parse


def fraction(text):
    """Returns `text` as a float above 0 and below 1."""
    return _number(text, lambda value: 0 < value < 1, "a number above 0 and below 1")


def share(text):
    """Returns `text` as a float above 0 and at most 1."""
    return _number(text, lambda value: 0 < value <= 1, "a number above 0 and at most 1")


def positive(text):
    """Returns `text` as a float above 0."""
    return _number(text, lambda value: 0 < value < float("inf"), "a number above 0")


def at_least_one(text):
    """Returns `text` as a float of 1 or more, `inf` included."""
    return _number(text, lambda value: value >= 1, "a number of 1 or more, or inf")


def not_negative(text):
    """Returns `text` as a finite float of 0 or more."""
    return _number(text, lambda value: 0 <= value < float("inf"), "a number of 0 or more")


def number(text):
    """Returns `text` as a finite float."""
    return _number(text, lambda value: abs(value) < float("inf"), "a number")


def several(kind):
    """Returns the type of values separated by commas, without repetitions.

    Args:
        kind: The type of one value, a function of a string.
    """

    def parse(text):
        return list(dict.fromkeys(kind(part) for part in text.split(",")))

    return parse


def _number(text, is_fine, expected):
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not is_fine(value):
        raise argparse.ArgumentTypeError(f"must be {expected}. Received: {text!r}")
    return value
