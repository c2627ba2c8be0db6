"""The networks of the benchmark MLPerf Tiny, for microcontrollers."""

import keras

from tf_lottery.experiments.models.blocks import (
    conv_norm_relu,
    he_normal,
    layer_seeds,
    norm_relu,
)

# Channels and stride of the blocks of MobileNet-v1 at a quarter of its width.
_MOBILENET_BLOCKS = (
    (16, 1),
    (32, 2),
    (32, 1),
    (64, 2),
    (64, 1),
    (128, 2),
    *[(128, 1)] * 5,
    (256, 2),
    (256, 1),
)


def mlperf_tiny_ds_cnn(
    input_shape: tuple[int | None, ...] = (49, 10, 1),
    num_classes: int = 12,
    seed: int | None = None,
) -> keras.Model:
    """Builds MLPerf Tiny's DS-CNN for spoken commands: a convolution and four separable blocks.

    The network of "MLPerf Tiny Benchmark" (arXiv:2106.07597) for keyword spotting, 24,908
    parameters. Its convolutions have biases, as in the benchmark's training code, although norms
    follow them; its weight decay and softmax are left out.

    Args:
        input_shape: Tuple, the shape of one example: time steps, coefficients of their spectra,
            1. Defaults to `(49, 10, 1)`, a second of speech.
        num_classes: Integer. Defaults to `12`.
        seed: Integer, decides the initial weights and the dropout. Defaults to `None`: random.

    Returns:
        A `keras.Model` from spectra to logits.

    Example:

    >>> mlperf_tiny_ds_cnn(seed=0).count_params()
    24908
    """
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape, name="input")
    x = _conv(inputs, 64, (10, 4), 2, "stem", seeds)
    x = keras.layers.Dropout(0.2, seed=next(seeds), name="stem_dropout")(x)
    for block in range(4):
        x = _separable(x, 64, 1, f"block_{block}", seeds)
    x = keras.layers.Dropout(0.4, seed=next(seeds), name="dropout")(x)
    return keras.Model(inputs, _classes(x, num_classes, seeds), name="mlperf_tiny_ds_cnn")


def mlperf_tiny_resnet_8(
    input_shape: tuple[int | None, ...] = (32, 32, 3),
    num_classes: int = 10,
    seed: int | None = None,
) -> keras.Model:
    """Builds MLPerf Tiny's ResNet-8 for CIFAR-10: three blocks of two convolutions.

    The network of "MLPerf Tiny Benchmark" (arXiv:2106.07597) for image classification, 78,666
    parameters. `resnet(8)` has as many layers; here all convolutions have biases, and no norm
    follows those of the shortcuts. Weight decay and softmax are left out.

    Args:
        input_shape: Tuple, the shape of one image. Defaults to `(32, 32, 3)`.
        num_classes: Integer. Defaults to `10`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.

    Returns:
        A `keras.Model` from images to logits.

    Example:

    >>> mlperf_tiny_resnet_8(seed=0).count_params()
    78666
    """
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape, name="input")
    x = _conv(inputs, 16, 3, 1, "stem", seeds)
    for stage, filters in enumerate((16, 32, 64)):
        name, strides, shortcut = f"stage_{stage}", 1 if stage == 0 else 2, x
        if stage > 0:
            shortcut = keras.layers.Conv2D(
                filters, 1, 2, kernel_initializer=he_normal(seeds), name=f"{name}_shortcut"
            )(x)
        x = _conv(x, filters, 3, strides, f"{name}_1", seeds)
        x = _conv(x, filters, 3, 1, f"{name}_2", seeds, activation=None)
        x = keras.layers.ReLU(name=f"{name}_relu")(x + shortcut)
    return keras.Model(inputs, _classes(x, num_classes, seeds), name="mlperf_tiny_resnet_8")


def mlperf_tiny_mobilenet_v1(
    input_shape: tuple[int | None, ...] = (96, 96, 3),
    num_classes: int = 2,
    seed: int | None = None,
) -> keras.Model:
    """Builds MLPerf Tiny's MobileNet-v1 at a quarter of its width: is there a person or not?

    The network of "MLPerf Tiny Benchmark" (arXiv:2106.07597) for visual wake words, 221,794
    parameters. Unlike in `mobilenet_v1(width=0.25)`, all convolutions have biases,
    rectifiers are not cut off at 6, padding is that of TensorFlow, and there is no dropout.
    Weight decay and softmax are left out.

    Args:
        input_shape: Tuple, the shape of one image. Defaults to `(96, 96, 3)`.
        num_classes: Integer. Defaults to `2`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.

    Returns:
        A `keras.Model` from images to logits.

    Example:

    >>> mlperf_tiny_mobilenet_v1(seed=0).count_params()
    221794
    """
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape, name="input")
    x = _conv(inputs, 8, 3, 2, "stem", seeds)
    for block, (filters, strides) in enumerate(_MOBILENET_BLOCKS):
        x = _separable(x, filters, strides, f"block_{block}", seeds)
    return keras.Model(inputs, _classes(x, num_classes, seeds), name="mlperf_tiny_mobilenet_v1")


def mlperf_tiny_autoencoder(
    input_shape: tuple[int, ...] = (640,), seed: int | None = None
) -> keras.Model:
    """Builds MLPerf Tiny's autoencoder for sounds of machines: ten dense layers, the fifth of 8.

    The network of "MLPerf Tiny Benchmark" (arXiv:2106.07597) for anomaly detection, 269,992
    parameters. It learns to reproduce its inputs; a sound that it reproduces badly is unusual.

    Args:
        input_shape: Tuple of one integer, how many numbers describe a sound. Defaults to
            `(640,)`: five spectra of 128 bands.
        seed: Integer, decides the initial weights. Defaults to `None`: random.

    Returns:
        A `keras.Model` from sounds to sounds.

    Example:

    >>> mlperf_tiny_autoencoder(seed=0).count_params()
    269992
    """
    seeds = layer_seeds(seed)
    x = inputs = keras.Input(input_shape, name="input")
    for i, units in enumerate((*[128] * 4, 8, *[128] * 4)):
        name = f"hidden_{i + 1}"
        x = keras.layers.Dense(units, kernel_initializer=he_normal(seeds), name=name)(x)
        x = norm_relu(x, name)
    init = he_normal(seeds)
    outputs = keras.layers.Dense(input_shape[-1], kernel_initializer=init, name="output")(x)
    return keras.Model(inputs, outputs, name="mlperf_tiny_autoencoder")


def _conv(x, filters, size, strides, name, seeds, activation="relu"):
    return conv_norm_relu(x, filters, size, strides, name, seeds, activation, use_bias=True)


def _separable(x, filters, strides, name, seeds):
    """Convolves every channel, then mixes them, each with a norm and a rectifier."""
    x = keras.layers.DepthwiseConv2D(
        3,
        strides,
        padding="same",
        depthwise_initializer=he_normal(seeds),
        name=f"{name}_depthwise",
    )(x)
    x = norm_relu(x, f"{name}_depthwise")
    return _conv(x, filters, 1, 1, f"{name}_pointwise", seeds)


def _classes(x, num_classes, seeds):
    """Returns the logits of a network that ends with a mean over all pixels."""
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.layers.Dense(num_classes, kernel_initializer=he_normal(seeds), name="output")(x)
