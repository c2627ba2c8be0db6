"""ResNets for CIFAR-10."""

import keras


def resnet_20(input_shape=(32, 32, 3), num_classes=10, seed=None):
    """Builds ResNet-20 for CIFAR-10: three stages of three blocks, 16, 32 and 64 channels.

    The network of "Deep Residual Learning" (arXiv:1512.03385, section 4.2), with 1x1
    convolutions where the shape changes.

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
    seeds = iter(range(1000 * seed, 1000 * seed + 1000)) if seed is not None else None
    inputs = keras.Input(input_shape)
    x = _conv(inputs, 16, 3, 1, "stem", seeds)
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stage > 0 and block == 0 else 1
            x = _block(x, filters, strides, f"stage_{stage}_block_{block}", seeds)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = keras.layers.Dense(num_classes, kernel_initializer=_he(seeds), name="output")(x)
    return keras.Model(inputs, outputs, name="resnet_20")


def _block(x, filters, strides, name, seeds):
    shortcut = x
    if x.shape[-1] != filters:
        shortcut = _conv(x, filters, 1, strides, f"{name}_shortcut", seeds, activation=None)
    x = _conv(x, filters, 3, strides, f"{name}_1", seeds)
    x = _conv(x, filters, 3, 1, f"{name}_2", seeds, activation=None)
    return keras.layers.ReLU(name=f"{name}_relu")(x + shortcut)


def _conv(x, filters, size, strides, name, seeds, activation="relu"):
    x = keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer=_he(seeds),
        name=name,
    )(x)
    x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
    return keras.layers.Activation(activation, name=f"{name}_relu")(x) if activation else x


def _he(seeds):
    return keras.initializers.HeNormal(next(seeds) if seeds else None)
