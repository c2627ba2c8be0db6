"""Networks of every kind for the benchmarks of the export, pruned and ready to predict.

Their weights are random: what a file stores, whether it is right and how fast it runs does not
depend on what a network has learned.
"""

import keras
import numpy as np
from keras import layers

import tf_lottery as tfl
from tf_lottery.experiments import models
from tf_lottery.export import child_process, conversion, micro, quantization, verification


def lenet():
    """LeNet-300-100."""
    return models.lenet_300_100(seed=0)


def vgg(width=64):
    """Four convolutions with batch normalization and two dense layers on 32x32 images."""
    x = inputs = keras.Input((32, 32, 3))
    for filters in (width, 2 * width):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(4 * width, "relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10)(x), name="vgg")


def mobilenet():
    """MobileNet-v1 as published, 224x224 images and 1,000 classes."""
    return models.mobilenet_v1(seed=0, symmetric_padding=True)


def small_mobilenet():
    """MobileNet-v1 at a quarter of its width, 96x96 images and ten classes."""
    return models.mobilenet_v1((96, 96, 3), 10, seed=0, width=0.25, symmetric_padding=True)


def lstm(units=128, width=28):
    """One LSTM, whose weights are used in the body of a loop."""
    inputs = keras.Input((28, width))
    return keras.Model(inputs, layers.Dense(10)(layers.LSTM(units)(inputs)), name="lstm")


def gru(units=128, width=28):
    """One GRU."""
    inputs = keras.Input((28, width))
    return keras.Model(inputs, layers.Dense(10)(layers.GRU(units)(inputs)), name="gru")


def transformer(width=128, length=64):
    """A block of attention and two dense layers, with residuals and layer normalization."""
    x = inputs = keras.Input((length, width))
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(4, width // 4)(y, y)
    y = layers.LayerNormalization()(x)
    x = x + layers.Dense(width)(layers.Dense(4 * width, "gelu")(y))
    outputs = layers.Dense(10)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, outputs, name="transformer")


def odd_widths():
    """Dense layers of 302, 30, 28 and 13 inputs, which are not multiples of a block."""
    x = inputs = keras.Input((302,))
    for units in (30, 28, 13):
        x = layers.Dense(units, "relu")(x)
    return keras.Model(inputs, layers.Dense(64)(x), name="odd_widths")


def pruned(build, sparsity, pattern="unstructured", seed=0, trained=True):
    """Returns a plain network with pruned kernels, scaled so that signals keep their size.

    Args:
        build: Function that returns a network, one of this module.
        sparsity: Float in [0, 1).
        pattern: String. Kernels that it does not divide stay dense. Defaults to
            `"unstructured"`.
        seed: Integer, decides the weights. Defaults to `0`.
        trained: Boolean, whether biases and batch statistics are arbitrary, as after
            training, or zeros and ones, as at the start. Defaults to `True`.
    """
    keras.utils.set_random_seed(seed)
    model = build()
    rng = np.random.default_rng(seed)
    kernels = {}
    if sparsity > 0:
        sparse = tfl.sparsify(model, sparsity=sparsity, pattern=pattern)
        tfl.strip(sparse)
        kernels = sparse.kernels
    for kernel in kernels.values():
        values = keras.ops.convert_to_numpy(kernel)
        kernel.assign(values / np.sqrt(max(np.count_nonzero(values) / values.size, 1e-3)))
    if not trained:
        return model
    for weight in model.weights:
        if weight.name in ("bias", "beta"):
            # Random deep networks amplify rounding errors unless most units are active.
            mean = 1.5 if weight.name == "beta" else 0.0
            weight.assign(rng.normal(mean, 0.1, size=weight.shape))
    _settle_statistics(model, rng)
    return model


def example_inputs(model, count, seed):
    """Returns `count` examples of normal numbers for a network of one input."""
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def keep_processes():
    """Makes all exports share the processes in which they run files.

    Otherwise every export starts new ones, which takes longer than running small networks.
    """
    kept = {}

    class Kept:
        def __init__(self, path):
            self.path = path

        def __enter__(self):
            if self.path not in kept or kept[self.path].has_ended():
                kept[self.path] = child_process.ChildProcess(self.path).__enter__()
            return kept[self.path]

        def __exit__(self, *_):
            pass

    for module in (conversion, micro, quantization, verification):
        module.ChildProcess = Kept


def _settle_statistics(model, rng):
    """Gives batch normalization the means and variances of the pruned network's signals."""
    norms = [x for x in model.layers if isinstance(x, layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        # The statistics of a layer depend on those of the layers before.
        model(rng.normal(size=(8, *model.input_shape[1:])).astype("float32"), training=True)
    for norm in norms:
        norm.momentum = 0.99
