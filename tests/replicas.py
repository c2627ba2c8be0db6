"""Script for the tests: trains with RigL on several replicas and prints masks and weights.

    python tests/replicas.py one
    TF_LOTTERY_TEST_DEVICES=2 python tests/replicas.py mirrored
    python tests/replicas.py process ADDRESS INDEX

All three train on the same batches. The last one runs in each of two JAX processes, which are
the two replicas of `keras.distribution.DataParallel`.
"""

import contextlib
import json
import sys

import keras
import numpy as np

BATCHES, BATCH_SIZE = 12, 8


def strategy_scope(kind, arguments):
    """Returns the context in which to create the model, and the index of the process."""
    if kind == "mirrored":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        devices = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, devices)
        names = [device.name for device in tf.config.list_logical_devices("CPU")]
        return tf.distribute.MirroredStrategy(names).scope(), 0
    if kind == "process":
        import jax

        address, index = arguments[0], int(arguments[1])
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(address, num_processes=2, process_id=index)
        assert len(keras.distribution.list_devices()) == 2
        # Keras would shard the data set, but here each process already has its own half.
        parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
        keras.distribution.set_distribution(parallel)
        return contextlib.nullcontext(), index
    return contextlib.nullcontext(), 0


def make_model():
    """Returns a compiled sparse model, the same in every process."""
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


def batches(kind, index):
    """Returns the data set: all examples, or this process's half if there are two."""
    rng = np.random.default_rng(1)
    size = BATCHES * BATCH_SIZE
    x, y = rng.normal(size=(size, 6)).astype("float32"), rng.integers(0, 3, size)
    if kind != "process":
        return x, y, BATCH_SIZE
    mine = np.arange(size).reshape(BATCHES, 2, -1)[:, index].reshape(-1)
    return x[mine], y[mine], BATCH_SIZE // 2


def replica_masks(model):
    """Returns the masks as a string for every replica of this process."""
    copies = []
    for mask in model.selection.masks:
        value = mask.value
        values = getattr(value, "values", None) or [
            shard.data for shard in getattr(value, "addressable_shards", [])
        ]
        copies.append([np.array(v) for v in values] or [np.array(value)])
    return [
        "".join(str(int(bit)) for mask in masks for bit in mask.reshape(-1))
        for masks in zip(*copies, strict=True)
    ]


def main():
    """Trains, and prints the result as a line of JSON."""
    kind, *arguments = sys.argv[1:]
    scope, index = strategy_scope(kind, arguments)
    import tf_lottery as tfl

    with scope:
        model = make_model()
    x, y, batch_size = batches(kind, index)
    if kind == "process":
        import tensorflow as tf

        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size, drop_remainder=True)
        arguments = {"x": data}
    else:
        arguments = {"x": x, "y": y, "batch_size": batch_size, "shuffle": False}
    method = tfl.callbacks.RigL(frequency=2, drop_fraction=0.4, end_step=11)
    start = replica_masks(model)
    model.fit(**arguments, epochs=1, verbose=0, callbacks=[method])
    kernels = [kernel.reshape(-1).tolist() for kernel in model.get_kernels().values()]
    print(json.dumps({"start": start, "masks": replica_masks(model), "kernels": kernels}))
    if kind == "process":
        import jax

        # Waits for the other process, since the first one is the coordinator of both.
        jax.distributed.shutdown()


if __name__ == "__main__":
    main()
