"""Conv-4 and Conv-6 for CIFAR-10."""

import keras

from tf_lottery.experiments.models.blocks import glorot_normal, layer_seeds


def conv_4(input_shape=(32, 32, 3), num_classes=10, seed=None, width=1.0):
    """Builds Conv-4: two pairs of 3x3 convolutions, pooled, and three dense layers.

    The network of "The Lottery Ticket Hypothesis" (arXiv:1803.03635, figure 2), a small VGG
    of 64 and 128 channels and 256 units, Gaussian Glorot initialization. 2,425,024 kernel
    weights for CIFAR-10; a quarter of the width has 152,368.

    Args:
        input_shape: Tuple, the shape of one image. Defaults to `(32, 32, 3)`.
        num_classes: Integer. Defaults to `10`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.
        width: Float > 0, multiplies the channels and units of all layers but the last.
            Defaults to `1.0`.

    Returns:
        A `keras.Model` from images to logits.

    Raises:
        ValueError: If `width` is not positive.

    Example:

    >>> conv_4(seed=0).count_params()
    2425930
    """
    return _conv("conv_4", (64, 128), input_shape, num_classes, seed, width)


def conv_6(input_shape=(32, 32, 3), num_classes=10, seed=None, width=1.0):
    """Builds Conv-6: three pairs of 3x3 convolutions, pooled, and three dense layers.

    As `conv_4` with a third pair, of 256 channels (arXiv:1803.03635, figure 2). 2,261,184 kernel
    weights for CIFAR-10; a quarter of the width has 142,128.

    Args:
        input_shape: Tuple, the shape of one image. Defaults to `(32, 32, 3)`.
        num_classes: Integer. Defaults to `10`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.
        width: Float > 0, multiplies the channels and units of all layers but the last.
            Defaults to `1.0`.

    Returns:
        A `keras.Model` from images to logits.

    Raises:
        ValueError: If `width` is not positive.

    Example:

    >>> conv_6(seed=0).count_params()
    2262602
    """
    return _conv("conv_6", (64, 128, 256), input_shape, num_classes, seed, width)


def _conv(name, pairs, input_shape, num_classes, seed, width):
    if width <= 0:
        raise ValueError(f"Argument `width` must be > 0. Received: width={width}")
    seeds = layer_seeds(seed)
    layers = [keras.Input(input_shape)]
    for pair, channels in enumerate(pairs):
        for i in range(2):
            layers.append(
                keras.layers.Conv2D(
                    int(channels * width),
                    3,
                    padding="same",
                    activation="relu",
                    kernel_initializer=glorot_normal(seeds),
                    name=f"conv_{2 * pair + i + 1}",
                )
            )
        layers.append(keras.layers.MaxPooling2D(2, name=f"pool_{pair + 1}"))
    layers.append(keras.layers.Flatten(name="flatten"))
    units = int(256 * width)
    sizes = {
        "hidden_1": (units, "relu"),
        "hidden_2": (units, "relu"),
        "output": (num_classes, None),
    }
    for layer, (size, activation) in sizes.items():
        initializer = glorot_normal(seeds)
        layers.append(
            keras.layers.Dense(size, activation, kernel_initializer=initializer, name=layer)
        )
    return keras.Sequential(layers, name=name)
