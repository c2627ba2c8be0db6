"""What the optional dependencies of the library are for, said where one is missing."""

import importlib.util


def require(extra: str, *modules: str) -> None:
    """Checks that modules are installed which an extra of the library brings.

    Args:
        extra: String, an extra of `setup.cfg`.
        *modules: Strings, the top-level names of the modules.

    Raises:
        ImportError: If one is not installed. It says what to install.

    Example:

    >>> require("plots", "matplotlib")
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f'{", ".join(missing)} must be installed for this: `pip install "tf_lottery[{extra}]"`',
            name=missing[0],
        )
