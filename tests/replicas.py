"""Script for the tests: trains with RigL on several replicas and prints masks and weights.

    python tests/replicas.py one
    TF_LOTTERY_TEST_DEVICES=2 python tests/replicas.py mirrored

Both train on the same batches.
"""

import contextlib
import json
import sys

import keras
import numpy as np

BATCHES, BATCH_SIZE = 12, 8


def strategy_scope(kind):
    """Returns the context in which to create the model."""
    if kind == "one":
        return contextlib.nullcontext()
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, devices)
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(names).scope()


def make_model():
    """Returns a compiled sparse model."""
    import tf_lottery as tfl

    layers = [keras.Input((6,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    model = tfl.sparsify(model, 0.6, scores="random")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    return model


def examples():
    """Returns the inputs and labels."""
    rng = np.random.default_rng(1)
    size = BATCHES * BATCH_SIZE
    return rng.normal(size=(size, 6)).astype("float32"), rng.integers(0, 3, size)


def replica_masks(model):
    """Returns the masks as a string for every replica."""
    copies = []
    for mask in model.selection.masks:
        value = mask.value
        copies.append([np.array(v) for v in getattr(value, "values", [value])])
    return [
        "".join(str(int(bit)) for mask in masks for bit in mask.reshape(-1))
        for masks in zip(*copies, strict=True)
    ]


def main():
    """Trains, and prints the result as a line of JSON."""
    scope = strategy_scope(sys.argv[1])
    import tf_lottery as tfl

    with scope:
        model = make_model()
    x, y = examples()
    method = tfl.callbacks.RigL(frequency=2, drop_fraction=0.4, end_step=11)
    start = replica_masks(model)
    model.fit(x, y, batch_size=BATCH_SIZE, shuffle=False, verbose=0, callbacks=[method])
    kernels = [kernel.reshape(-1).tolist() for kernel in model.get_kernels().values()]
    print(json.dumps({"start": start, "masks": replica_masks(model), "kernels": kernels}))


if __name__ == "__main__":
    main()
