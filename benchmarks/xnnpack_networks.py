"""Small networks that XNNPACK's sparse kernels can run, and ones that they cannot."""

import keras
import numpy as np
from keras import layers

from tf_lottery.experiments.models import mobilenet_v1

BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (256, 1))
ACTIVATIONS = ("hard_swish", "gelu", "silu")


def mobilenet(size, symmetric_padding=True):
    """Returns MobileNet-v1 with another head: pooling to vectors and a dense layer.

    With the head of `mobilenet_v1`, a 1x1 convolution, the file does not load.
    """
    model = mobilenet_v1((size, size, 3), seed=0, symmetric_padding=symmetric_padding)
    x = layers.GlobalAveragePooling2D()(model.get_layer("pool").input)
    return keras.Model(model.input, layers.Dense(1000, name="logits")(x))


def small(variant="base", size=64):
    """Returns a net of a stem and six separable blocks.

    Args:
        variant: String, `"base"` or a variation of it; see `HEADS` and this function.
        size: Integer, height and width of the images.
    """
    activation = variant if variant in ACTIVATIONS else "relu6"
    inputs = x = keras.Input((size, size, 1 if variant in ("one_channel", "copied_channel") else 3))
    if variant == "copied_channel":
        x = layers.Concatenate()([x, x, x])
    x = _strided(x, variant != "stem_same", layers.Conv2D, 32, 3)
    x = layers.Activation(activation)(x)
    for filters, strides in BLOCKS:
        before = x
        if strides == 2:
            x = _strided(x, variant != "depthwise_same", layers.DepthwiseConv2D, 3)
        else:
            x = layers.DepthwiseConv2D(3, padding="same")(x)
        x = layers.Conv2D(filters, 1)(layers.Activation(activation)(x))
        if variant == "residual" and x.shape == before.shape:
            x = layers.Add()([x, before])
        x = layers.Activation(activation)(x)
    return keras.Model(inputs, HEADS.get(variant, _mean)(x))


def _strided(x, is_symmetric, layer, *args):
    if not is_symmetric:
        return layer(*args, strides=2, padding="same")(x)
    return layer(*args, strides=2)(layers.ZeroPadding2D(1)(x))


def _mean(x):
    return layers.Dense(10)(layers.GlobalAveragePooling2D()(x))


def _squeeze_excite(x):
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(64, 1, activation="relu")(gate)
    return _mean(layers.Multiply()([x, layers.Conv2D(256, 1, activation="sigmoid")(gate)]))


def _convolution(x):
    x = layers.Conv2D(10, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Flatten()(x)


HEADS = {
    "mean_keepdims": lambda x: layers.Dense(10)(
        layers.Flatten()(layers.GlobalAveragePooling2D(keepdims=True)(x))
    ),
    "squeeze_excite": _squeeze_excite,
    "depthwise_5x5": lambda x: _mean(layers.DepthwiseConv2D(5, padding="same")(x)),
    "upsampling": lambda x: _mean(layers.UpSampling2D(2, interpolation="bilinear")(x)),
    "max_pool_head": lambda x: layers.Dense(10)(layers.GlobalMaxPooling2D()(x)),
    "flatten_head": lambda x: layers.Dense(10)(layers.Flatten()(x)),
    "concatenate": lambda x: _mean(
        layers.Concatenate()([layers.Conv2D(64, 1)(x), layers.Conv2D(64, 1)(x)])
    ),
    "subtract": lambda x: _mean(
        layers.Subtract()([layers.Conv2D(64, 1)(x), layers.Conv2D(64, 1)(x)])
    ),
    "cumsum": lambda x: _mean(layers.Conv2D(64, 1)(keras.ops.cumsum(x, axis=1))),
    "convolution_head": _convolution,
    "two_heads": lambda x: [_mean(x), layers.Conv2D(32, 1)(x)],
    "average_pool": lambda x: _mean(layers.Conv2D(64, 1)(layers.AveragePooling2D(2)(x))),
    "constant": lambda x: _mean(layers.Conv2D(64, 1)(keras.ops.tanh(keras.ops.tanh(x) * 2.0))),
    "mean_of_rows": lambda x: layers.Dense(10)(layers.Flatten()(keras.ops.mean(x, axis=1))),
}
VARIANTS = (
    *("base", "residual", "hard_swish", "gelu", "silu", "copied_channel"),
    *("stem_same", "depthwise_same", "one_channel"),
    *HEADS,
)


def draw_weights(model, sparsity, seed=0):
    """Draws all kernels anew and prunes those of the 1x1 convolutions by magnitude.

    The kernels are scaled so that values keep their size from layer to layer. If values
    vanished, mixed-up channels would go unnoticed.

    Args:
        model: A Keras model.
        sparsity: Float in [0, 1), the fraction of zeros of each 1x1 kernel.
        seed: Integer.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        is_depthwise = isinstance(layer, layers.DepthwiseConv2D)
        if not is_depthwise and not isinstance(layer, layers.Conv2D):
            continue
        values = rng.normal(size=layer.kernel.shape)
        share = 1.0
        if tuple(layer.kernel_size) == (1, 1) and sparsity:
            values *= np.abs(values) > np.quantile(np.abs(values), sparsity)
            share = np.mean(values**2)
        fan_in = np.prod(values.shape[: 2 if is_depthwise else 3])
        layer.kernel.assign(values * np.sqrt(2 / (fan_in * share)))
