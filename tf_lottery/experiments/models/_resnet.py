"""ResNets for CIFAR-10."""

import keras

from tf_lottery.experiments.models.blocks import conv_norm_relu, he_normal, layer_seeds


def resnet(
    depth: int,
    input_shape: tuple[int | None, ...] = (32, 32, 3),
    num_classes: int = 10,
    seed: int | None = None,
    width: int = 16,
    stem_strides: int = 1,
) -> keras.Model:
    """Builds a ResNet for CIFAR-10: three stages of blocks of two convolutions.

    The networks of "Deep Residual Learning" (arXiv:1512.03385, section 4.2) with 6n + 2
    layers, with 1x1 convolutions where the shape changes.

    Args:
        depth: Integer, 8, 14, 20 and so on.
        input_shape: Tuple, the shape of one image. Defaults to `(32, 32, 3)`.
        num_classes: Integer. Defaults to `10`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.
        width: Integer, the channels of the first stage; the others have two and four times as
            many. Defaults to `16`.
        stem_strides: Integer, 2 for a quarter of the computation. Defaults to `1`.

    Returns:
        A `keras.Model` from images to logits.

    Raises:
        ValueError: If `depth` is not 6n + 2.

    Example:

    >>> resnet(8, seed=0).count_params()
    78714
    """
    blocks, remainder = divmod(depth - 2, 6)
    if remainder or blocks < 1:
        raise ValueError(f"Argument `depth` must be 6n + 2, n > 0. Received: depth={depth}")
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape, name="input")
    x = conv_norm_relu(inputs, width, 3, stem_strides, "stem", seeds)
    for stage, filters in enumerate((width, 2 * width, 4 * width)):
        for block in range(blocks):
            strides = 2 if stage > 0 and block == 0 else 1
            x = _block(x, filters, strides, f"stage_{stage}_block_{block}", seeds)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = keras.layers.Dense(num_classes, kernel_initializer=he_normal(seeds), name="output")(x)
    return keras.Model(inputs, outputs, name=f"resnet_{depth}")


def resnet_20(
    input_shape: tuple[int | None, ...] = (32, 32, 3),
    num_classes: int = 10,
    seed: int | None = None,
) -> keras.Model:
    """Builds ResNet-20 for CIFAR-10; see `resnet`.

    Args:
        input_shape: Tuple, the shape of one image. Defaults to `(32, 32, 3)`.
        num_classes: Integer. Defaults to `10`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.

    Returns:
        A `keras.Model` from images to logits.

    Example:

    >>> resnet_20(seed=0).output_shape
    (None, 10)
    """
    return resnet(20, input_shape, num_classes, seed)


def _block(x, filters, strides, name, seeds):
    shortcut = x
    if x.shape[-1] != filters:
        shortcut = conv_norm_relu(x, filters, 1, strides, f"{name}_shortcut", seeds, None)
    x = conv_norm_relu(x, filters, 3, strides, f"{name}_1", seeds)
    x = conv_norm_relu(x, filters, 3, 1, f"{name}_2", seeds, None)
    return keras.layers.ReLU(name=f"{name}_relu")(x + shortcut)
