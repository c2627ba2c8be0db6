"""Models with momentum, of which the methods have to keep account."""

import keras
import pytest


@pytest.fixture
def compile_model(compile_model):
    """Function that compiles a model, with momentum if no optimizer is given."""

    def compile_with_momentum(model, optimizer=None, **kwargs):
        optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
        return compile_model(model, optimizer, **kwargs)

    return compile_with_momentum
