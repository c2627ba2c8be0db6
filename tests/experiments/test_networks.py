import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.experiments import models, networks
from tf_lottery.experiments.data import Data


def make_data(name):
    if name == "text":
        part = (np.zeros((4, 6), "int32"), np.ones((4, 6), "int32"))
        return Data("text", part, part, part, vocabulary="abcde")
    shape = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}[name]
    part = (np.zeros((4, *shape), "float32"), np.arange(4, dtype="int32"))
    return Data(name, part, part, part)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("digits", "lenet-300-100"),
        ("mnist", "lenet-300-100"),
        ("cifar10", "conv-4-norms-small"),
        ("text", "gru"),
    ],
)
def test_default_model_fits(name, model):
    data = make_data(name)
    assert networks.default_model(data) == model
    assert networks.DEFAULT_MODELS["tiny_shakespeare" if name == "text" else name] == model
    outputs = networks.build(model, data, seed=0)(data.train[0])
    assert outputs.shape == (*data.train[1].shape, data.num_classes)


LARGE = ("resnet-18", "resnet-34", "resnet-50", "resnet-56", "vgg-16", "vgg-19")
LARGE += ("conv-4-norms", "conv-6-norms", "mobilenet-v1", "mobilenet-v2")
LARGE += ("mlperf-tiny-mobilenet-v1",)


def large_ones_thorough(names):
    reason = "large; the quick tests build small ones"
    return [
        pytest.param(name, marks=pytest.mark.thorough(reason)) if name in LARGE else name
        for name in names
    ]


@pytest.mark.parametrize(
    "name", large_ones_thorough(n for n in networks.MODELS if n not in networks.TEXT_MODELS)
)
def test_models_for_images(name):
    data = make_data("cifar10" if networks.SMALLEST_IMAGES.get(name, 1) > 28 else "mnist")
    first, again = (networks.build(name, data, seed=1) for _ in range(2))
    assert first(data.train[0]).shape == (4, 4)
    for a, b in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", large_ones_thorough(networks.SMALLEST_IMAGES))
def test_smallest_images_are_the_smallest(name):
    size = networks.SMALLEST_IMAGES[name]
    for pixels, fits in ((size, True), (size - 1, False)):
        try:
            model = networks.MODELS[name]((pixels, pixels, 1), 2, 0)
            ends = [x for x in model.layers if x.name in ("flatten", "pool")]
            assert fits == (0 not in ends[0].input.shape)
        except ValueError:
            assert not fits


@pytest.mark.parametrize(
    ("model", "name", "words"),
    [
        ("gru", "mnist", "'gru' is for text. Received: model='gru' with 'mnist', which is images"),
        ("lenet-5", "text", "'lenet-5' is for images. .* which is text"),
        ("lenet-5", "digits", "at least 16x16 pixels. .* images of 8x8"),
        ("lenet", "digits", "`model` must be one of .* Received: model='lenet'"),
    ],
)
def test_models_that_do_not_fit(model, name, words):
    with pytest.raises(ValueError, match=words):
        networks.build(model, make_data(name), seed=0)


def test_one_number_for_an_example():
    part = (np.zeros(4, "float32"), np.arange(4, dtype="int32"))
    data = Data("own.npz", part, part, part)
    assert networks.build("lenet-300-100", data, seed=0)(data.train[0]).shape == (4, 4)
    with pytest.raises(ValueError, match="takes images. .* inputs of shape \\(\\)"):
        networks.build("conv-4", data, seed=0)


def test_conv_4_has_the_papers_size():
    # 2.4 million weights, arXiv:1803.03635, figure 2.
    assert tfl.summary(models.conv_4(seed=0)).size == 2_425_024
    assert tfl.summary(models.conv_4(seed=0, width=0.25)).size == 152_368


def test_conv_6_has_the_papers_size():
    # 2.3 million weights, arXiv:1803.03635, figure 2.
    assert tfl.summary(models.conv_6(seed=0)).size == 2_261_184
    assert tfl.summary(models.conv_6(seed=0, width=0.25)).size == 142_128


@pytest.mark.parametrize("model", [models.conv_4, models.conv_6])
@pytest.mark.parametrize("width", [0, -1.0])
def test_width_of_convolutional_networks(model, width):
    with pytest.raises(ValueError, match=f"`width` must be > 0. Received: width={width}"):
        model(width=width)
