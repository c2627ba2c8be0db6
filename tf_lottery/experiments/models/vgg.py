"""VGG-16 and VGG-19 with batch normalization, for CIFAR-10."""

import keras

from tf_lottery.experiments.models.blocks import conv_norm_relu, he_normal, layer_seeds

_CHANNELS = (64, 128, 256, 512, 512)


def vgg_16(
    input_shape: tuple[int | None, ...] = (32, 32, 3),
    num_classes: int = 10,
    seed: int | None = None,
) -> keras.Model:
    """Builds VGG-16 for CIFAR-10: 13 convolutions, each with a norm, and one dense layer.

    Configuration D of "Very Deep Convolutional Networks" (arXiv:1409.1556, table 1) as sparse
    training uses it on CIFAR-10 (arXiv:1912.05671, table 1): batch normalization, no bias in
    convolutions, and pooling over the whole last feature map in place of the hidden dense
    layers. 14 kernels of 14,715,584 weights, 313.2 million multiplications.

    Args:
        input_shape: Tuple, the shape of one image of at least 16x16 pixels. Defaults to
            `(32, 32, 3)`.
        num_classes: Integer. Defaults to `10`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.

    Returns:
        A `keras.Model` from images to logits.

    Example:

    >>> vgg_16(seed=0).output_shape
    (None, 10)
    """
    return _vgg("vgg_16", (2, 2, 3, 3, 3), input_shape, num_classes, seed)


def vgg_19(
    input_shape: tuple[int | None, ...] = (32, 32, 3),
    num_classes: int = 10,
    seed: int | None = None,
) -> keras.Model:
    """Builds VGG-19 for CIFAR-10: 16 convolutions, each with a norm, and one dense layer.

    Configuration E of arXiv:1409.1556, table 1, changed as `vgg_16` is; the network of "The
    Lottery Ticket Hypothesis" (arXiv:1803.03635, figure 2). 17 kernels of 20,024,000 weights,
    398.1 million multiplications.

    Args:
        input_shape: Tuple, the shape of one image of at least 16x16 pixels. Defaults to
            `(32, 32, 3)`.
        num_classes: Integer. Defaults to `10`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.

    Returns:
        A `keras.Model` from images to logits.

    Example:

    >>> vgg_19(seed=0).output_shape
    (None, 10)
    """
    return _vgg("vgg_19", (2, 2, 4, 4, 4), input_shape, num_classes, seed)


def _vgg(name, depths, input_shape, num_classes, seed):
    seeds = layer_seeds(seed)
    inputs = x = keras.Input(input_shape, name="input")
    for stage, (channels, depth) in enumerate(zip(_CHANNELS, depths, strict=True)):
        if stage > 0:
            x = keras.layers.MaxPooling2D(2, name=f"pool_{stage}")(x)
        for i in range(depth):
            x = conv_norm_relu(x, channels, 3, 1, f"conv_{stage + 1}_{i + 1}", seeds)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = keras.layers.Dense(num_classes, kernel_initializer=he_normal(seeds), name="output")(x)
    return keras.Model(inputs, outputs, name=name)
