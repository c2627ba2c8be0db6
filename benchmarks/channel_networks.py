"""The networks whose channels are pruned, with ten classes or fewer, at small sizes.

Those of keras-hub need `pip install keras-hub`.
"""

import functools
import importlib.util

import keras
from keras import layers

from tf_lottery.experiments import models

APPLICATIONS = {
    "ResNet50V2": 64,
    "MobileNetV2": 96,
    "MobileNetV3Small": 96,
    "EfficientNetB0": 64,
    "DenseNet121": 64,
    "ConvNeXtTiny": 64,
    "InceptionV3": 96,
    "VGG16": 32,
}


def application(name, size):
    """Returns a network of `keras.applications` with ten classes, from images to logits."""
    build = getattr(keras.applications, name)
    return build(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)


def _conv(filters, size=3, **kwargs):
    return layers.Conv2D(filters, size, padding="same", use_bias=False, **kwargs)


def _conv_norm_relu(x, filters, size=3, **kwargs):
    x = layers.BatchNormalization()(_conv(filters, size, **kwargs)(x))
    return layers.ReLU()(x)


def unet():
    """A U-Net that doubles its resolution by transposed convolutions."""
    inputs = keras.Input((32, 32, 3))
    x, skips = inputs, []
    for filters in (8, 16):
        x = _conv_norm_relu(_conv_norm_relu(x, filters), filters)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = _conv_norm_relu(x, 32)
    for filters in (16, 8):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = layers.Concatenate()([x, skips.pop()])
        x = _conv_norm_relu(_conv_norm_relu(x, filters), filters)
    return keras.Model(inputs, layers.Conv2D(2, 1)(x))


def squeeze_and_excitation():
    """A residual network with a gate for every channel in every block."""
    inputs = keras.Input((32, 32, 3))
    x = _conv_norm_relu(inputs, 32)
    for _ in range(3):
        y = layers.BatchNormalization()(_conv(32)(_conv_norm_relu(x, 32)))
        gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
        gate = layers.Dense(32, "sigmoid")(layers.Dense(8, "relu")(gate))
        x = layers.ReLU()(layers.Add()([x, layers.Multiply()([y, gate])]))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def grouped():
    """A residual network with grouped convolutions, as in ResNeXt."""
    inputs = keras.Input((32, 32, 3))
    x = _conv_norm_relu(inputs, 64)
    for _ in range(3):
        y = _conv_norm_relu(_conv_norm_relu(x, 64, 1), 64, groups=8)
        y = layers.BatchNormalization()(_conv(64, 1)(y))
        x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def recurrent(kind):
    """Two recurrent layers over 16 steps."""
    inputs = keras.Input((16, 20))
    x = kind(64)(kind(64, return_sequences=True)(inputs))
    return keras.Model(inputs, layers.Dense(10)(x))


def bidirectional():
    """LSTM layers in both directions, with a dense layer at every step between them."""
    inputs = keras.Input((16, 20))
    x = layers.Bidirectional(layers.LSTM(32, return_sequences=True))(inputs)
    x = layers.TimeDistributed(layers.Dense(48, "relu"))(x)
    x = layers.Bidirectional(layers.LSTM(32))(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def siamese():
    """The distance of two images, each seen by the same network."""
    first, second = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    image = keras.Input((32, 32, 3))
    x = layers.MaxPooling2D()(_conv_norm_relu(image, 32))
    x = layers.MaxPooling2D()(_conv_norm_relu(x, 64))
    tower = keras.Model(image, layers.Dense(64)(layers.GlobalAveragePooling2D()(x)), name="tower")
    distance = keras.ops.abs(tower(first) - tower(second))
    return keras.Model([first, second], layers.Dense(1)(distance))


def grouped_attention():
    """A transformer in which two heads of queries share one of keys and values."""
    inputs = keras.Input((16, 64))
    x = inputs
    for _ in range(2):
        y = layers.RMSNormalization()(x)
        x = x + layers.GroupQueryAttention(16, 8, 4)(y, y)
        y = layers.RMSNormalization()(x)
        x = x + layers.Dense(64)(layers.Dense(256, "gelu")(y))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


def vit():
    """A vision transformer of keras-hub."""
    import keras_hub

    body = keras_hub.models.ViTBackbone(
        (32, 32, 3), 8, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=256
    )
    return keras_hub.models.ViTImageClassifier(body, num_classes=10, preprocessor=None)


def bert():
    """A BERT of keras-hub."""
    import keras_hub

    body = keras_hub.models.BertBackbone(
        1000, num_layers=4, num_heads=4, hidden_dim=64, intermediate_dim=256, max_sequence_length=32
    )
    return keras_hub.models.BertTextClassifier(body, num_classes=10, preprocessor=None)


NETWORKS = {
    "resnet_20": functools.partial(models.resnet_20, seed=0),
    **{name: functools.partial(application, name, size) for name, size in APPLICATIONS.items()},
    "unet": unet,
    "squeeze_and_excitation": squeeze_and_excitation,
    "grouped": grouped,
    "lstm": functools.partial(recurrent, layers.LSTM),
    "gru": functools.partial(recurrent, layers.GRU),
    "bidirectional": bidirectional,
    "siamese": siamese,
    "grouped_attention": grouped_attention,
    "vit": vit,
    "bert": bert,
}
OF_KERAS_HUB = ("vit", "bert")
LENGTH = 32


def has_keras_hub():
    """Returns whether keras-hub is installed."""
    return importlib.util.find_spec("keras_hub") is not None


def example_shape(model):
    """Returns the shape of an example in the structure of the inputs, with a length of sequences.

    Args:
        model: A model of `NETWORKS`.
    """
    return keras.tree.map_structure(
        lambda x: tuple(LENGTH if size is None else size for size in x.shape[1:]), model.input
    )


def examples(model, batch, rng):
    """Returns random inputs, for integers zeros and ones.

    Args:
        model: A model of `NETWORKS`.
        batch: Integer, the number of examples.
        rng: A `numpy.random.Generator`.
    """

    def make(x):
        shape = (batch, *(LENGTH if size is None else size for size in x.shape[1:]))
        if keras.backend.is_float_dtype(x.dtype):
            return rng.normal(size=shape).astype("float32")
        return rng.integers(0, 2, shape).astype(x.dtype)

    return keras.tree.map_structure(make, model.input)
