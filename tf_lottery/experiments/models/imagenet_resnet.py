"""ResNets for ImageNet."""

import keras

from tf_lottery.checks import choice
from tf_lottery.experiments.models.blocks import conv_norm_relu, he_normal, layer_seeds

_CHANNELS = (64, 128, 256, 512)
STEMS = ("imagenet", "cifar")


def resnet_18(
    input_shape: tuple[int | None, ...] = (224, 224, 3),
    num_classes: int = 1000,
    seed: int | None = None,
    stem: str = "imagenet",
) -> keras.Model:
    """Builds ResNet-18: four stages of two blocks of two 3x3 convolutions.

    The network of "Deep Residual Learning" (arXiv:1512.03385, table 1), with 1x1 convolutions
    where the shape changes: 21 kernels of 11,678,912 weights, 1.81 billion multiplications.
    With `stem="cifar"` it is the one that tickets are retrained with on CIFAR-10 and CIFAR-100
    (arXiv:2206.12755): 0.56 billion multiplications for 32x32 pixels.

    Args:
        input_shape: Tuple, the shape of one image. Defaults to `(224, 224, 3)`.
        num_classes: Integer. Defaults to `1000`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.
        stem: `"imagenet"`, a 7x7 convolution of stride 2 and pooling; or `"cifar"`, for small
            images, a 3x3 convolution that keeps all pixels. Defaults to `"imagenet"`.

    Returns:
        A `keras.Model` from images to logits.

    Raises:
        ValueError: If `stem` is unknown.

    Example:

    >>> resnet_18(seed=0).output_shape
    (None, 1000)
    """
    return _resnet("resnet_18", (2, 2, 2, 2), _block, input_shape, num_classes, seed, stem)


def resnet_34(
    input_shape: tuple[int | None, ...] = (224, 224, 3),
    num_classes: int = 1000,
    seed: int | None = None,
    stem: str = "imagenet",
) -> keras.Model:
    """Builds ResNet-34: four stages of 3, 4, 6 and 3 blocks of two 3x3 convolutions.

    The network of arXiv:1512.03385, table 1: 37 kernels of 21,779,648 weights, 3.66 billion
    multiplications; see `resnet_18`.

    Args:
        input_shape: Tuple, the shape of one image. Defaults to `(224, 224, 3)`.
        num_classes: Integer. Defaults to `1000`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.
        stem: `"imagenet"` or `"cifar"`; see `resnet_18`. Defaults to `"imagenet"`.

    Returns:
        A `keras.Model` from images to logits.

    Raises:
        ValueError: If `stem` is unknown.

    Example:

    >>> resnet_34((32, 32, 3), num_classes=10, seed=0, stem="cifar").output_shape
    (None, 10)
    """
    return _resnet("resnet_34", (3, 4, 6, 3), _block, input_shape, num_classes, seed, stem)


def resnet_50(
    input_shape: tuple[int | None, ...] = (224, 224, 3),
    num_classes: int = 1000,
    seed: int | None = None,
) -> keras.Model:
    """Builds ResNet-50 "v1.5": bottlenecks with their stride in the 3x3 convolution.

    The network of "Deep Residual Learning" (arXiv:1512.03385, table 1) as RigL
    (arXiv:1911.11134) trains it: 54 kernels of 25,502,912 weights. The stem's padding is a
    layer of its own, as in RigL's code, whose FLOPs depend on it.

    Args:
        input_shape: Tuple, the shape of one image. Defaults to `(224, 224, 3)`.
        num_classes: Integer. Defaults to `1000`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.

    Returns:
        A `keras.Model` from images to logits.

    Example:

    >>> resnet_50(seed=0).count_params()
    25610152
    """
    depths = (3, 4, 6, 3)
    return _resnet("resnet_50", depths, _bottleneck, input_shape, num_classes, seed, "imagenet")


def _resnet(name, depths, block, input_shape, num_classes, seed, stem):
    choice("stem", stem, STEMS)
    seeds = layer_seeds(seed)
    inputs = x = keras.Input(input_shape, name="input")
    if stem == "imagenet":
        x = keras.layers.ZeroPadding2D(3, name="stem_pad")(x)
        x = conv_norm_relu(x, 64, 7, 2, "stem", seeds, padding="valid")
        x = keras.layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    else:
        x = conv_norm_relu(x, 64, 3, 1, "stem", seeds)
    for stage, (filters, depth) in enumerate(zip(_CHANNELS, depths, strict=True)):
        for i in range(depth):
            strides = 2 if stage > 0 and i == 0 else 1
            x = block(x, filters, strides, f"stage_{stage}_block_{i}", seeds)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = keras.layers.Dense(num_classes, kernel_initializer=he_normal(seeds), name="output")(x)
    return keras.Model(inputs, outputs, name=name)


def _block(x, filters, strides, name, seeds):
    shortcut = x
    if x.shape[-1] != filters:
        shortcut = conv_norm_relu(x, filters, 1, strides, f"{name}_shortcut", seeds, None)
    x = conv_norm_relu(x, filters, 3, strides, f"{name}_1", seeds)
    x = conv_norm_relu(x, filters, 3, 1, f"{name}_2", seeds, None)
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _bottleneck(x, filters, strides, name, seeds):
    shortcut = x
    if x.shape[-1] != 4 * filters:
        shortcut = conv_norm_relu(x, 4 * filters, 1, strides, f"{name}_shortcut", seeds, None)
    x = conv_norm_relu(x, filters, 1, 1, f"{name}_1", seeds)
    x = conv_norm_relu(x, filters, 3, strides, f"{name}_2", seeds)
    x = conv_norm_relu(x, 4 * filters, 1, 1, f"{name}_3", seeds, None)
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu")(x)
