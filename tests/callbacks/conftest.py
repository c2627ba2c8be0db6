"""Models whose few steps cost little."""

import keras
import pytest


@pytest.fixture
def compile_model(compile_model):
    """Function that compiles a model, with momentum if no optimizer is given.

    TensorFlow makes the steps one by one: up to a dozen of them take less time than their graph.
    Longer trainings ask for a graph, and so do those of several steps per execution.
    """
    mode = {"run_eagerly": True} if keras.backend.backend() == "tensorflow" else {}

    def compile_cheaply(model, optimizer=None, **kwargs):
        optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
        return compile_model(model, optimizer, **{**mode, **kwargs})

    return compile_cheaply
