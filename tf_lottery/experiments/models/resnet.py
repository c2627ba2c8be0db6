"""ResNets for CIFAR-10."""

import keras

from tf_lottery.experiments.models.blocks import conv_norm_relu, he_normal, layer_seeds


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
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape)
    x = conv_norm_relu(inputs, 16, 3, 1, "stem", seeds)
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stage > 0 and block == 0 else 1
            x = _block(x, filters, strides, f"stage_{stage}_block_{block}", seeds)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = keras.layers.Dense(num_classes, kernel_initializer=he_normal(seeds), name="output")(x)
    return keras.Model(inputs, outputs, name="resnet_20")


def _block(x, filters, strides, name, seeds):
    shortcut = x
    if x.shape[-1] != filters:
        shortcut = conv_norm_relu(x, filters, 1, strides, f"{name}_shortcut", seeds, None)
    x = conv_norm_relu(x, filters, 3, strides, f"{name}_1", seeds)
    x = conv_norm_relu(x, filters, 3, 1, f"{name}_2", seeds, None)
    return keras.layers.ReLU(name=f"{name}_relu")(x + shortcut)
