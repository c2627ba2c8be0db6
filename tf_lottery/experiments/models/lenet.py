"""LeNet-300-100."""

import keras


def lenet_300_100(input_shape=(28, 28, 1), num_classes=10, seed=None):
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
    layers = [keras.Input(input_shape), keras.layers.Flatten(name="flatten")]
    sizes = {"hidden_1": (300, "relu"), "hidden_2": (100, "relu"), "output": (num_classes, None)}
    for i, (name, (units, activation)) in enumerate(sizes.items()):
        initializer = keras.initializers.GlorotNormal(None if seed is None else 1000 * seed + i)
        layers.append(
            keras.layers.Dense(units, activation, kernel_initializer=initializer, name=name)
        )
    return keras.Sequential(layers, name="lenet_300_100")
