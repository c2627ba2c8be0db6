"""Public names: they hide no modules, and what they name has type hints."""

import importlib
import inspect
import pkgutil

import pytest

import tf_lottery as tfl

# The packages that users type.
PUBLIC = (
    tfl,
    tfl.at_init,
    tfl.callbacks,
    tfl.compression,
    tfl.controls,
    tfl.export,
    tfl.interop,
    tfl.layers,
    tfl.retrain,
    tfl.sparsity,
)


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


def callables():
    """Returns a dict of full names to the public functions, methods and properties."""
    found = {}
    for package in PUBLIC:
        for value in exports(package).values():
            classes = value.__mro__ if inspect.isclass(value) else ()
            members = [member for c in classes if is_own(c) for member in vars(c).items()]
            for name, member in [("", value)] if not classes else members:
                function = inspect.unwrap(getattr(member, "__func__", None) or accessor(member))
                if inspect.isfunction(function) and is_own(function) and is_public(name):
                    found[f"{function.__module__}.{function.__qualname__}"] = function
    return found


def is_public(name):
    return name == "__init__" or not any(part.startswith("_") for part in name.split("."))


def is_own(value):
    return value.__module__.startswith("tf_lottery.")


def accessor(member):
    return member.fget if isinstance(member, property) else member


def lacks_hints(function):
    """Returns whether an argument of a function, or what it returns, has no type hint."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].name in ("self", "cls"):
        del parameters[0]
    hints = [signature.return_annotation, *(parameter.annotation for parameter in parameters)]
    return inspect.Signature.empty in hints


def test_public_callables_have_type_hints():
    assert len(callables()) > 300
    assert {name for name, function in callables().items() if lacks_hints(function)} == set()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda: None, True),
        (tfl.strip, False),
        (tfl.SparseModel.fit, False),
        (packages, True),
    ],
)
def test_lacks_hints(function, expected):
    assert lacks_hints(function) == expected
