"""Small networks, a few digits, and eager training."""

import keras
import pytest

from tf_lottery.experiments import data, lottery, models, networks
from tf_lottery.experiments.models.blocks import glorot_normal, layer_seeds


def small_conv_4(input_shape, num_classes, seed=None):
    """Builds a network of two convolutions with the name of Conv-4."""
    seeds = layer_seeds(seed)

    def conv(name):
        initializer = glorot_normal(seeds)
        return keras.layers.Conv2D(
            4, 3, padding="same", activation="relu", kernel_initializer=initializer, name=name
        )

    layers = [
        keras.Input(input_shape),
        conv("conv_1"),
        conv("conv_2"),
        keras.layers.MaxPooling2D(2, name="pool_1"),
        keras.layers.Flatten(name="flatten"),
        keras.layers.Dense(num_classes, kernel_initializer=glorot_normal(seeds), name="output"),
    ]
    return keras.Sequential(layers, name="conv_4")


def small_gru(input_shape, num_classes, seed=None):
    return models.gru_language_model(num_classes, 8, 4, input_shape=input_shape, seed=seed)


@pytest.fixture(scope="module")
def small_networks(small_lenet):
    """Replaces the networks that the experiments train by default by small ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.MODELS, "lenet-300-100", small_lenet)
        for name in ("conv-4-small", "conv-4-norms-small"):
            patch.setitem(networks.MODELS, name, small_conv_4)
        patch.setitem(networks.MODELS, "gru", small_gru)
        patch.setattr(lottery, "lenet_300_100", small_lenet)
        yield


@pytest.fixture(scope="session")
def digits():
    """A hundred digits for training, and fifty each for validation and test."""
    every = data.load("digits")
    sizes = ((every.train, 100), (every.validation, 50), (every.test, 50))
    return data.Data("digits", *(tuple(a[:size] for a in part) for part, size in sizes))


@pytest.fixture(
    scope="module",
    params=[
        "eager",
        pytest.param("compiled", marks=pytest.mark.thorough("every network is compiled anew")),
    ],
)
def mode(request):
    """Trains eagerly, since compiling a step takes longer than a dozen steps."""
    compile_model = keras.Model.compile

    def compile_eagerly(self, *args, **kwargs):
        compile_model(self, *args, **{**kwargs, "run_eagerly": True, "jit_compile": False})

    with pytest.MonkeyPatch.context() as patch:
        if request.param == "eager":
            patch.setattr(keras.Model, "compile", compile_eagerly)
        yield request.param
