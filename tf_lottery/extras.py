"""Checks that optional dependencies of the library are installed."""

import importlib.util


def require(extra: str, *modules: str) -> None:
    """Checks that the modules of an extra of the library are installed.

    Args:
        extra: String, an extra of `setup.cfg`.
        *modules: Strings, the top-level names of the modules.

    Raises:
        ImportError: If one is not installed. The message says how to install it.

    Example:

    >>> require("plots", "matplotlib")
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f'{", ".join(missing)} must be installed for this: `pip install "tf_lottery[{extra}]"`',
            name=missing[0],
        )
