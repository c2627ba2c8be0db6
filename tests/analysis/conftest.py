"""Models with the metric that errors are computed from."""

import functools

import pytest


@pytest.fixture
def compile_model(compile_model):
    """Returns a function that compiles a model, by default with its accuracy as the metric."""
    return functools.partial(compile_model, metrics=["accuracy"])
