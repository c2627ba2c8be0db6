"""MobileNets for ImageNet."""

import keras

from tf_lottery.experiments.models.blocks import (
    conv_norm_relu,
    he_normal,
    layer_seeds,
    norm_relu,
)

# Channels and stride of the separable blocks of version 1 (arXiv:1704.04861, table 1).
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)
# Expansion, channels, repetitions and first stride of version 2 (arXiv:1801.04381, table 2).
_BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v1(
    input_shape: tuple[int | None, ...] = (224, 224, 3),
    num_classes: int = 1000,
    seed: int | None = None,
    width: float = 1.0,
    symmetric_padding: bool = False,
    dropout: float = 1e-3,
) -> keras.Model:
    """Builds MobileNet-v1: a stem and 13 depthwise separable blocks.

    The network of "MobileNets" (arXiv:1704.04861, table 1). Its weights have the shapes of
    those of `keras.applications.MobileNet`.

    Args:
        input_shape: Tuple, the shape of one image. Defaults to `(224, 224, 3)`.
        num_classes: Integer. Defaults to `1000`.
        seed: Integer, decides the initial weights and the dropout. Defaults to `None`:
            random.
        width: Float > 0, multiplies the channels of all layers but the last. Defaults to
            `1.0`.
        symmetric_padding: Boolean, whether convolutions of stride 2 are padded with a row
            and a column of zeros on every side, as in other frameworks, and the last layer
            is a pooling layer; XNNPACK's sparse kernels need both. Defaults to `False`, as
            in `keras.applications.MobileNet`.
        dropout: Float in [0, 1), the rate before the last layer. Defaults to `1e-3`.

    Returns:
        A `keras.Model` from images to logits.

    Raises:
        ValueError: If `width` is not positive.

    Example:

    >>> mobilenet_v1(seed=0).count_params()
    4253864
    """
    if width <= 0:
        raise ValueError(f"Argument `width` must be > 0. Received: width={width}")
    seeds = layer_seeds(seed)
    inputs = x = keras.Input(input_shape, name="input")
    padding = "same"
    if symmetric_padding:
        x, padding = keras.layers.ZeroPadding2D(1, name="stem_pad")(x), "valid"
    x = conv_norm_relu(x, int(32 * width), 3, 2, "stem", seeds, "relu6", padding)
    for block, (filters, strides) in enumerate(_BLOCKS):
        x = _depthwise(x, strides, f"block_{block}_depthwise", seeds, symmetric_padding)
        x = conv_norm_relu(
            x, int(filters * width), 1, 1, f"block_{block}_pointwise", seeds, "relu6"
        )
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    x = keras.layers.Dropout(dropout, seed=next(seeds), name="dropout")(x)
    # A convolution as in Keras' model: the Erdos-Renyi kernel sparsities depend on its shape.
    x = keras.layers.Conv2D(num_classes, 1, kernel_initializer=he_normal(seeds), name="output")(x)
    # A mean over one pixel: with `Flatten` XNNPACK's sparse kernels cannot run the network.
    flatten = keras.layers.GlobalAveragePooling2D if symmetric_padding else keras.layers.Flatten
    outputs = flatten(name="logits")(x)
    return keras.Model(inputs, outputs, name="mobilenet_v1")


def mobilenet_v2(
    input_shape: tuple[int | None, ...] = (224, 224, 3),
    num_classes: int = 1000,
    seed: int | None = None,
    dropout: float = 0.2,
) -> keras.Model:
    """Builds MobileNetV2: a stem, 17 inverted residual bottlenecks and a wide last convolution.

    The network of "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (arXiv:1801.04381,
    table 2): 3,504,872 trainable weights, 300.8 million multiplications. Its weights have the
    shapes of those of `keras.applications.MobileNetV2`.

    Args:
        input_shape: Tuple, the shape of one image. Defaults to `(224, 224, 3)`.
        num_classes: Integer. Defaults to `1000`.
        seed: Integer, decides the initial weights and the dropout. Defaults to `None`:
            random.
        dropout: Float in [0, 1), the rate before the last layer. Defaults to `0.2`.

    Returns:
        A `keras.Model` from images to logits.

    Example:

    >>> mobilenet_v2(seed=0).output_shape
    (None, 1000)
    """
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape, name="input")
    x = conv_norm_relu(inputs, 32, 3, 2, "stem", seeds, "relu6")
    for stage, (expansion, filters, depth, strides) in enumerate(_BOTTLENECKS):
        for i in range(depth):
            name = f"stage_{stage}_block_{i}"
            x = _bottleneck(x, expansion, filters, strides if i == 0 else 1, name, seeds)
    x = conv_norm_relu(x, 1280, 1, 1, "last", seeds, "relu6")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(dropout, seed=next(seeds), name="dropout")(x)
    outputs = keras.layers.Dense(num_classes, kernel_initializer=he_normal(seeds), name="output")(x)
    return keras.Model(inputs, outputs, name="mobilenet_v2")


def _bottleneck(x, expansion, filters, strides, name, seeds):
    """Expands the channels, convolves each and narrows again, without a rectifier at the end."""
    shortcut, channels = x, expansion * x.shape[-1]
    if expansion > 1:
        x = conv_norm_relu(x, channels, 1, 1, f"{name}_expand", seeds, "relu6")
    x = _depthwise(x, strides, f"{name}_depthwise", seeds, symmetric_padding=False)
    x = conv_norm_relu(x, filters, 1, 1, f"{name}_project", seeds, None)
    if strides > 1 or shortcut.shape[-1] != filters:
        return x
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])


def _depthwise(x, strides, name, seeds, symmetric_padding):
    if strides == 2:
        sides = 1 if symmetric_padding else ((0, 1), (0, 1))
        x = keras.layers.ZeroPadding2D(sides, name=f"{name}_pad")(x)
    x = keras.layers.DepthwiseConv2D(
        3,
        strides,
        padding="valid" if strides == 2 else "same",
        use_bias=False,
        depthwise_initializer=he_normal(seeds),
        name=name,
    )(x)
    return norm_relu(x, name, "relu6")
