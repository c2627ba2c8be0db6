"""LeNet-300-100 and LeNet-5."""

import keras

from tf_lottery.experiments.models.blocks import glorot_normal, layer_seeds


def lenet_300_100(
    input_shape: tuple[int | None, ...] = (28, 28, 1),
    num_classes: int = 10,
    seed: int | None = None,
) -> keras.Model:
    """Builds LeNet-300-100, the fully connected network of the lottery ticket paper.

    266,200 kernel weights for MNIST, Gaussian Glorot initialization (arXiv:1803.03635,
    figure 2).

    Args:
        input_shape: Tuple, the shape of one example. Defaults to `(28, 28, 1)`.
        num_classes: Integer. Defaults to `10`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.

    Returns:
        A `keras.Model` from images to logits.

    Example:

    >>> lenet_300_100(seed=0).count_params()
    266610
    """
    seeds = layer_seeds(seed)
    layers = [
        keras.Input(input_shape, name="input"),
        keras.layers.Flatten(name="flatten"),
        _dense(300, "relu", "hidden_1", seeds),
        _dense(100, "relu", "hidden_2", seeds),
        _dense(num_classes, None, "output", seeds),
    ]
    return keras.Sequential(layers, name="lenet_300_100")


def lenet_5(
    input_shape: tuple[int | None, ...] = (28, 28, 1),
    num_classes: int = 10,
    seed: int | None = None,
) -> keras.Model:
    """Builds LeNet-5: two convolutions of 6 and 16 channels, dense layers of 120 and 84 units.

    The network of "Gradient-based learning applied to document recognition" (LeCun et
    al., 1998) as RigL's code (arXiv:1911.11134) has it for MNIST: without padding, with
    rectifiers and maximum pooling. 44,190 kernel weights.

    Args:
        input_shape: Tuple, the shape of one image. Defaults to `(28, 28, 1)`.
        num_classes: Integer. Defaults to `10`.
        seed: Integer, decides the initial weights. Defaults to `None`: random.

    Returns:
        A `keras.Model` from images to logits.

    Example:

    >>> lenet_5(seed=0).count_params()
    44426
    """
    seeds = layer_seeds(seed)
    layers = [
        keras.Input(input_shape, name="input"),
        _conv(6, "conv_1", seeds),
        keras.layers.MaxPooling2D(2, name="pool_1"),
        _conv(16, "conv_2", seeds),
        keras.layers.MaxPooling2D(2, name="pool_2"),
        keras.layers.Flatten(name="flatten"),
        _dense(120, "relu", "hidden_1", seeds),
        _dense(84, "relu", "hidden_2", seeds),
        _dense(num_classes, None, "output", seeds),
    ]
    return keras.Sequential(layers, name="lenet_5")


def _dense(units, activation, name, seeds):
    initializer = glorot_normal(seeds)
    return keras.layers.Dense(units, activation, kernel_initializer=initializer, name=name)


def _conv(filters, name, seeds):
    initializer = glorot_normal(seeds)
    return keras.layers.Conv2D(
        filters, 5, activation="relu", kernel_initializer=initializer, name=name
    )
