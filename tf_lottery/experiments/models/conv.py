"""Conv-4 and Conv-6 for CIFAR-10."""

import keras

from tf_lottery.experiments.models.blocks import glorot_normal, layer_seeds


def conv_4(
    input_shape: tuple[int | None, ...] = (32, 32, 3),
    num_classes: int = 10,
    seed: int | None = None,
    width: float = 1.0,
    norms: bool = False,
) -> keras.Model:
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
        norms: Whether every layer but the last is followed by batch normalization and has no
            bias. The paper's network has none. Without normalization the signal of a sparse
            network vanishes from layer to layer, which costs every method accuracy. Defaults to
            `False`.

    Returns:
        A `keras.Model` from images to logits.

    Raises:
        ValueError: If `width` is not positive.

    Example:

    >>> conv_4(seed=0).count_params()
    2425930
    """
    return _conv("conv_4", (64, 128), input_shape, num_classes, seed, width, norms)


def conv_6(
    input_shape: tuple[int | None, ...] = (32, 32, 3),
    num_classes: int = 10,
    seed: int | None = None,
    width: float = 1.0,
    norms: bool = False,
) -> keras.Model:
    """Builds Conv-6: three pairs of 3x3 convolutions, pooled, and three dense layers.

    As `conv_4` with a third pair, of 256 channels (arXiv:1803.03635, figure 2). 2,261,184 kernel
    weights for CIFAR-10; a quarter of the width has 142,128.

    Args:
        input_shape: Tuple, the shape of one image. Defaults to `(32, 32, 3)`.
        num_classes: Integer. Defaults to `10`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.
        width: Float > 0, multiplies the channels and units of all layers but the last.
            Defaults to `1.0`.
        norms: Boolean; see `conv_4`. Defaults to `False`.

    Returns:
        A `keras.Model` from images to logits.

    Raises:
        ValueError: If `width` is not positive.

    Example:

    >>> conv_6(seed=0).count_params()
    2262602
    """
    return _conv("conv_6", (64, 128, 256), input_shape, num_classes, seed, width, norms)


def _conv(name, pairs, input_shape, num_classes, seed, width, norms):
    if width <= 0:
        raise ValueError(f"Argument `width` must be > 0. Received: width={width}")
    seeds = layer_seeds(seed)
    layers = [keras.Input(input_shape, name="input")]
    for pair, channels in enumerate(pairs):
        for i in range(2):
            layer = f"conv_{2 * pair + i + 1}"
            how = {"kernel_size": 3, "padding": "same"}
            layers += _hidden(
                keras.layers.Conv2D, int(channels * width), layer, seeds, norms, **how
            )
        layers.append(keras.layers.MaxPooling2D(2, name=f"pool_{pair + 1}"))
    layers.append(keras.layers.Flatten(name="flatten"))
    for layer in ("hidden_1", "hidden_2"):
        layers += _hidden(keras.layers.Dense, int(256 * width), layer, seeds, norms)
    initializer = glorot_normal(seeds)
    layers.append(keras.layers.Dense(num_classes, kernel_initializer=initializer, name="output"))
    return keras.Sequential(layers, name=name)


def _hidden(layer, size, name, seeds, norms, **kwargs):
    """Returns a layer with a rectifier, or with a norm and a rectifier after it."""
    hidden = layer(
        size,
        activation=None if norms else "relu",
        use_bias=not norms,
        kernel_initializer=glorot_normal(seeds),
        name=name,
        **kwargs,
    )
    if not norms:
        return [hidden]
    norm = keras.layers.BatchNormalization(name=f"{name}_norm")
    return [hidden, norm, keras.layers.ReLU(name=f"{name}_relu")]
