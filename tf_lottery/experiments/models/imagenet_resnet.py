"""ResNets for ImageNet."""

import keras

from tf_lottery.experiments.models.blocks import conv_norm_relu, he_normal, layer_seeds

_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


def resnet_50(input_shape=(224, 224, 3), num_classes=1000, seed=None):
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
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape)
    x = keras.layers.ZeroPadding2D(3, name="stem_pad")(inputs)
    x = conv_norm_relu(x, 64, 7, 2, "stem", seeds, padding="valid")
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    for stage, (filters, blocks) in enumerate(_STAGES):
        for block in range(blocks):
            strides = 2 if stage > 0 and block == 0 else 1
            x = _bottleneck(x, filters, strides, f"stage_{stage}_block_{block}", seeds)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = keras.layers.Dense(num_classes, kernel_initializer=he_normal(seeds), name="output")(x)
    return keras.Model(inputs, outputs, name="resnet_50")


def _bottleneck(x, filters, strides, name, seeds):
    shortcut = x
    if x.shape[-1] != 4 * filters:
        shortcut = conv_norm_relu(x, 4 * filters, 1, strides, f"{name}_shortcut", seeds, None)
    x = conv_norm_relu(x, filters, 1, 1, f"{name}_1", seeds)
    x = conv_norm_relu(x, filters, 3, strides, f"{name}_2", seeds)
    x = conv_norm_relu(x, 4 * filters, 1, 1, f"{name}_3", seeds, None)
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu")(x)
