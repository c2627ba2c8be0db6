"""Models with optimizer slots, which the methods must handle."""

import keras
import pytest


@pytest.fixture
def compile_model(compile_model):
    """Returns a function that compiles a model, by default with momentum."""

    def compile_with_momentum(model, optimizer=None, **kwargs):
        optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
        return compile_model(model, optimizer, **kwargs)

    return compile_with_momentum
