import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.experiments import models

# The smallest image sizes for networks that need more than 8 pixels.
SMALLEST = {models.lenet_5: 16, models.mobilenet_v1: 32}


@pytest.mark.parametrize(
    ("make", "num_kernels", "size", "outputs"),
    [
        (models.lenet_300_100, 3, 266_200, (None, 10)),
        (models.lenet_5, 5, 150 + 2400 + 256 * 120 + 120 * 84 + 840, (None, 10)),
        # 0.27 million in the paper; the 1x1 convolutions add some.
        (models.resnet_20, 22, 270_896, (None, 10)),
        (models.wide_resnet_22_2, 23, 1_076_912, (None, 10)),
        # Three gates, each with weights for the embedding and for the state.
        (
            models.gru_language_model,
            3,
            3 * 512 * (128 + 512) + 512 * 256,
            (None, None, 256),
        ),
    ],
)
def test_networks_have_the_papers_size(make, num_kernels, size, outputs):
    model = make()
    kernels = [weight for weight in model.weights if weight.name.endswith("kernel")]
    assert len(kernels) == num_kernels
    assert sum(np.prod(kernel.shape) for kernel in kernels) == size
    assert model.output_shape == outputs


@pytest.mark.parametrize(
    ("make", "num_kernels", "size", "num_trainable"),
    [
        # The numbers of trainable weights in torchvision and `keras.applications`.
        pytest.param(
            models.resnet_50,
            *(54, 25_502_912, 25_557_032),
            marks=pytest.mark.thorough("its FLOPs are those of the literature"),
        ),
        (models.mobilenet_v1, 28, 4_209_088, 4_231_976),
    ],
)
def test_imagenet_networks_have_the_published_size(make, num_kernels, size, num_trainable):
    model = make()
    kernels = [weight for weight in model.weights if weight.name.endswith("kernel")]
    assert len(kernels) == num_kernels
    assert sum(np.prod(kernel.shape) for kernel in kernels) == size
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == num_trainable
    assert model.output_shape == (None, 1000)


def num_macs(model):
    return tfl.flops(model, convention="mac").dense


@pytest.mark.thorough("builds nine networks; the quick tests build the smaller ones")
@pytest.mark.parametrize(
    ("make", "num_kernels", "num_trainable", "macs"),
    [
        # torchvision's model table: parameters, and multiply-accumulates in billions.
        (models.resnet_18, 21, 11_689_512, 1.81e9),
        (models.resnet_34, 37, 21_797_672, 3.66e9),
        (models.mobilenet_v2, 53, 3_504_872, 0.30e9),
        # 221,794 parameters, of which two for each of 2,736 channels are statistics of norms.
        (models.mlperf_tiny_mobilenet_v1, 28, 221_794 - 2 * 2_736, 7.49e6),
        # The parameters that are usual for CIFAR-10, without the biases of convolutions.
        (models.vgg_16, 14, 14_728_266 - 4_224, 0.3132e9),
        (models.vgg_19, 17, 20_040_522 - 5_504, 0.3981e9),
        (lambda: models.resnet(56), 58, 855_770, 0.126e9),
        (lambda: models.resnet_18((32, 32, 3), 10, stem="cifar"), 21, 11_173_962, 0.5554e9),
        (lambda: models.resnet_34((32, 32, 3), 10, stem="cifar"), 37, 21_282_122, 1.16e9),
    ],
)
def test_large_networks_have_the_published_size(make, num_kernels, num_trainable, macs):
    model = make()
    kernels = [weight for weight in model.weights if weight.name.endswith("kernel")]
    assert len(kernels) == num_kernels
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == num_trainable
    assert num_macs(model) == pytest.approx(macs, rel=5e-3)


@pytest.mark.parametrize(
    ("make", "parameters", "macs"),
    [
        # The benchmark's parameters, with the statistics of norms, and the multiplications of
        # its layers.
        (models.mlperf_tiny_ds_cnn, 24_908, 125 * (40 * 64 + 4 * (9 + 64) * 64) + 64 * 12),
        (models.mlperf_tiny_autoencoder, 269_992, 2 * 128 * (640 + 3 * 128 + 8)),
        (
            models.mlperf_tiny_resnet_8,
            78_666,
            1024 * 9 * (3 + 16 + 16) * 16
            + 256 * (9 * (16 + 32) + 16) * 32
            + 64 * (9 * (32 + 64) + 32) * 64
            + 640,
        ),
    ],
)
def test_networks_of_mlperf_tiny_have_the_published_size(make, parameters, macs):
    model = make()
    assert model.count_params() == parameters
    assert num_macs(model) == macs


@pytest.mark.parametrize("make", [models.conv_4, models.conv_6])
def test_norms_replace_the_biases_of_hidden_layers(make):
    plain, normalized = (make((16, 16, 3), width=0.25, norms=norms) for norms in (False, True))
    assert num_macs(plain) == num_macs(normalized)
    names = [layer.name for layer in normalized.layers]
    hidden = [layer for layer in plain.layers if hasattr(layer, "kernel")][:-1]
    for layer in hidden:
        place = names.index(layer.name)
        assert names[place + 1 : place + 3] == [f"{layer.name}_norm", f"{layer.name}_relu"]
        assert normalized.layers[place].bias is None
    assert normalized.layers[-1].bias is not None
    outputs = [getattr(layer, "filters", None) or layer.units for layer in hidden]
    assert normalized.count_params() - plain.count_params() == 3 * sum(outputs)


def test_mobilenet_v2_has_residuals_between_equal_shapes():
    model = models.mobilenet_v2((32, 32, 3), num_classes=3)
    adds = [layer for layer in model.layers if layer.name.endswith("_add")]
    # A stage of n blocks has n - 1: table 2 of arXiv:1801.04381.
    assert len(adds) == 0 + 1 + 2 + 3 + 2 + 2 + 0
    projections = [layer.name for layer in model.layers if layer.name.endswith("_project_relu")]
    assert projections == []


def test_unknown_stem():
    with pytest.raises(ValueError, match="`stem` must be one of .* Received: .*'mnist'"):
        models.resnet_18(stem="mnist")


@pytest.mark.parametrize(
    "make",
    [
        models.lenet_300_100,
        models.lenet_5,
        *(
            pytest.param(make, marks=pytest.mark.thorough("builds a large network three times"))
            for make in (
                models.resnet_20,
                models.wide_resnet_22_2,
                lambda seed: models.mobilenet_v1((32, 32, 3), 5, seed, width=0.25),
            )
        ),
        lambda seed: models.gru_language_model(9, 8, 4, seed=seed),
    ],
)
def test_initial_weights_depend_on_the_seed_alone(make):
    first, again, other = make(seed=3).weights, make(seed=3).weights, make(seed=4).weights
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert len(a.shape) < 2 or a.name == "bias" or not np.array_equal(a, c)


@pytest.mark.parametrize(
    "make",
    [
        models.lenet_300_100,
        models.lenet_5,
        models.mobilenet_v1,
        *(
            pytest.param(make, marks=pytest.mark.thorough("another test has another shape"))
            for make in (models.resnet_20, models.resnet_50, models.wide_resnet_22_2)
        ),
    ],
)
def test_other_shapes(make):
    size = SMALLEST.get(make, 8)
    model = make((size, size, 1), num_classes=3)
    assert model(np.zeros((2, size, size, 1), "float32")).shape == (2, 3)


def test_resnet_50_has_its_strides_in_the_3x3_convolutions():
    model = models.resnet_50((32, 32, 3), num_classes=3)
    assert model.output_shape == (None, 3)
    convs = [layer for layer in model.layers if hasattr(layer, "kernel_size")]
    strided = [layer.kernel_size for layer in convs if layer.strides == (2, 2)]
    assert sorted(strided) == [(1, 1)] * 3 + [(3, 3)] * 3 + [(7, 7)]
    assert all("shortcut" in c.name for c in convs if (c.kernel_size, c.strides[0]) == ((1, 1), 2))


def test_wide_resnet_drops_out_in_training_alone():
    model = models.wide_resnet_22_2((8, 8, 3), seed=0)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_array_equal(model(x), model(x))
    rates = [layer.rate for layer in model.layers if "dropout" in layer.name]
    assert rates == [0.3] * 9
    model = models.wide_resnet_22_2((8, 8, 3), dropout=0.1)
    assert {layer.rate for layer in model.layers if "dropout" in layer.name} == {0.1}


def test_mobilenet_pads_as_asked():
    def paddings(model):
        return {x.padding for x in model.layers if type(x).__name__ == "ZeroPadding2D"}

    below, around = (models.mobilenet_v1(symmetric_padding=symmetric) for symmetric in (0, 1))
    assert paddings(below) == {((0, 1), (0, 1))}
    assert paddings(around) == {((1, 1), (1, 1))}
    assert [layer.padding for layer in below.layers if layer.name == "stem"] == ["same"]
    assert [layer.padding for layer in around.layers if layer.name == "stem"] == ["valid"]
    for model in (below, around):
        assert model.get_layer("pool").input.shape == (None, 7, 7, 1024)


def test_width_of_mobilenet():
    # Half the width: 1.3 million in table 6 of arXiv:1704.04861.
    assert tfl.summary(models.mobilenet_v1(width=0.5)).num_parameters == 1_342_536
    with pytest.raises(ValueError, match="`width` must be > 0. Received: width=0"):
        models.mobilenet_v1(width=0)


def test_language_model_reads_texts_of_any_length():
    model = models.gru_language_model(vocabulary_size=9, units=8, embedding=4)
    for length in (3, 7):
        assert model(np.ones((2, length), "int32")).shape == (2, length, 9)
