"""Models that train without a graph."""

import functools

import keras
import pytest


@pytest.fixture
def compile_model(compile_model):
    """Function that compiles a model; TensorFlow makes its steps one by one.

    These trainings make few steps, and tracing them takes longer. Graphs are trained by the tests
    that ask for them or call `compile` themselves, and by `test_contract.py`.
    """
    if keras.backend.backend() != "tensorflow":
        return compile_model
    return functools.partial(compile_model, run_eagerly=True)
