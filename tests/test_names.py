"""No public function has the same name as a module, which would hide one of the two."""

import importlib
import inspect
import pkgutil

import tf_lottery as tfl


def packages(package):
    """Yields a package and all packages in it."""
    yield package
    for module in pkgutil.iter_modules(package.__path__):
        if module.ispkg:
            yield from packages(importlib.import_module(f"{package.__name__}.{module.name}"))


def exports(package):
    """Returns a dict of names to the functions and classes that a package exports."""
    return {
        name: value
        for name, value in vars(package).items()
        if not name.startswith("_") and (inspect.isclass(value) or inspect.isroutine(value))
    }


def test_no_export_is_called_like_a_module():
    twins = {
        f"{package.__name__}.{name}"
        for package in packages(tfl)
        for name, value in exports(package).items()
        if name in {module.name for module in pkgutil.iter_modules(package.__path__)}
        or value.__module__.split(".")[-1] == name
    }
    assert twins == set()
