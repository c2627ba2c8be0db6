"""MobileNets for ImageNet."""

import keras

from tf_lottery.experiments.models.blocks import (
    conv_norm_relu,
    he_normal,
    layer_seeds,
    norm_relu,
)

# Channels and stride of the separable blocks (arXiv:1704.04861, table 1).
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


def mobilenet_v1(
    input_shape=(224, 224, 3),
    num_classes=1000,
    seed=None,
    width=1.0,
    symmetric_padding=False,
    dropout=1e-3,
):
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
    inputs = x = keras.Input(input_shape)
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
