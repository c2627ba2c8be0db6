"""Conv-4 for CIFAR-10."""

import keras

from tf_lottery.experiments.models.blocks import glorot_normal, layer_seeds


def conv_4(
    input_shape=(32, 32, 3), num_classes=10, seed=None, width=1.0, batch_normalization=False
):
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
        batch_normalization: Whether every layer but the last is normalized, which keeps the
            signal of a network alive that is sparse from the start. Defaults to `False`, as
            in the paper.

    Returns:
        A `keras.Model` from images to logits.

    Raises:
        ValueError: If `width` is not positive.

    Example:

    >>> conv_4(seed=0).count_params()
    2425930
    """
    if width <= 0:
        raise ValueError(f"Argument `width` must be > 0. Received: width={width}")
    seeds = layer_seeds(seed)
    layers = [keras.Input(input_shape)]

    def add(layer):
        if batch_normalization:
            layers.extend([layer, keras.layers.BatchNormalization(name=f"{layer.name}_norm")])
            layers.append(keras.layers.ReLU(name=f"{layer.name}_relu"))
        else:
            layer.activation = keras.activations.relu
            layers.append(layer)

    for i, channels in enumerate((64, 64, 128, 128), start=1):
        name, initializer = f"conv_{i}", glorot_normal(seeds)
        add(
            keras.layers.Conv2D(
                int(channels * width), 3, padding="same", kernel_initializer=initializer, name=name
            )
        )
        if i % 2 == 0:
            layers.append(keras.layers.MaxPooling2D(2, name=f"pool_{i // 2}"))
    layers.append(keras.layers.Flatten(name="flatten"))
    for name in ("hidden_1", "hidden_2"):
        initializer = glorot_normal(seeds)
        add(keras.layers.Dense(int(256 * width), kernel_initializer=initializer, name=name))
    initializer = glorot_normal(seeds)
    layers.append(keras.layers.Dense(num_classes, kernel_initializer=initializer, name="output"))
    return keras.Sequential(layers, name="conv_4")
