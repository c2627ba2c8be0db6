"""Checks of arguments that several rooms share."""


def positive_integer(name, value):
    """Returns `value`, or raises a `ValueError` if it is not an integer above 0.

    Args:
        name: String, the argument's name for the message.
        value: The value to check.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"Argument `{name}` must be an integer > 0. Received: {name}={value!r}")
    return value


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
