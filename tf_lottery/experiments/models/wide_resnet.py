"""Wide ResNets for CIFAR-10."""

import keras

from tf_lottery.experiments.models.blocks import conv, he_normal, layer_seeds, norm_relu


def wide_resnet_22_2(
    input_shape: tuple[int | None, ...] = (32, 32, 3),
    num_classes: int = 10,
    seed: int | None = None,
    dropout: float = 0.3,
) -> keras.Model:
    """Builds WRN-22-2: three stages of three pre-activation blocks, 32, 64 and 128 channels.

    The network of "Wide Residual Networks" (arXiv:1605.07146, table 1) with the depth and
    width of RigL (arXiv:1911.11134, section 4.3): 23 kernels of 1,076,912 weights.

    Args:
        input_shape: Tuple, the shape of one image. Defaults to `(32, 32, 3)`.
        num_classes: Integer. Defaults to `10`.
        seed: Integer, decides the initial weights and the dropout. Defaults to `None`:
            random.
        dropout: Float in [0, 1), the rate between the convolutions of a block. Defaults
            to `0.3`.

    Returns:
        A `keras.Model` from images to logits.

    Example:

    >>> wide_resnet_22_2(seed=0).output_shape
    (None, 10)
    """
    seeds = layer_seeds(seed)
    inputs = keras.Input(input_shape, name="input")
    x = conv(inputs, 16, 3, 1, "stem", seeds)
    for stage, filters in enumerate((32, 64, 128)):
        for block in range(3):
            strides = 2 if stage > 0 and block == 0 else 1
            x = _block(x, filters, strides, f"stage_{stage}_block_{block}", seeds, dropout)
    x = norm_relu(x, "output")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = keras.layers.Dense(num_classes, kernel_initializer=he_normal(seeds), name="output")(x)
    return keras.Model(inputs, outputs, name="wide_resnet_22_2")


def _block(x, filters, strides, name, seeds, dropout):
    shortcut = x
    x = norm_relu(x, f"{name}_1")
    if shortcut.shape[-1] != filters:
        # A shortcut with a convolution starts after the activation.
        shortcut = conv(x, filters, 1, strides, f"{name}_shortcut", seeds)
    x = conv(x, filters, 3, strides, f"{name}_1", seeds)
    x = norm_relu(x, f"{name}_2")
    x = keras.layers.Dropout(dropout, seed=next(seeds), name=f"{name}_dropout")(x)
    x = conv(x, filters, 3, 1, f"{name}_2", seeds)
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])
