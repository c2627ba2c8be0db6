"""What a mask costs per training step, against plain Keras and against TFMOT.

    KERAS_BACKEND=tensorflow python benchmarks/step_cost.py            (with TFMOT: [tfmot])
    KERAS_BACKEND=tensorflow python benchmarks/step_cost.py --jit
    KERAS_BACKEND=jax python benchmarks/step_cost.py

Run it on an idle machine: other load makes every step longer and every ratio closer to one.

LeNet-300-100 at batch 128, ResNet-20 at batch 128 and MobileNet (96 pixels) at batch 16, Adam,
80% sparsity, on one batch that is repeated. Plain and sparse model train in turns within one
process; the ratio is the median over pairs. TFMOT prunes the same architecture in `tf_keras` and
is compared with the plain `tf_keras` model.

What it should show: a masked step takes at most 1.05 times the plain one, and less than TFMOT's.
LeNet takes longer with XLA and JAX. A masked kernel is one more array of 1 MB, written once a step:
50 to 110 microseconds, the higher number with fresh memory, in a step of 1.4 ms. The compiled step
accesses 19.0 MB instead of 16.4; the masked gradient adds nothing, since it is computed within the
optimizer's pass. Without that array, every optimizer would have to write the zeros itself.
TensorFlow's graph mode also casts the mask, and multiplies the gradient in a pass of its own.
"""

import argparse
import importlib.util
import os
import statistics
import time

import keras
import numpy as np
import record

import tf_lottery as tfl

SPARSITY = 0.8
# Batch size, steps of a timed run, pairs of runs.
SIZES = {"lenet_300_100": (128, 60, 30), "resnet_20": (128, 3, 6), "mobilenet": (16, 3, 6)}


def lenet_300_100(k):
    """Returns LeNet-300-100 in the Keras module `k`."""
    dense = k.layers.Dense
    return k.Sequential([k.Input((784,)), dense(300, "relu"), dense(100, "relu"), dense(10)])


def resnet_20(k):
    """Returns ResNet-20 in the Keras module `k`."""

    def conv(x, filters, size, strides):
        x = k.layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        return k.layers.BatchNormalization()(x)

    inputs = k.Input((32, 32, 3))
    x = k.layers.ReLU()(conv(inputs, 16, 3, 1))
    for filters in (16, 32, 64):
        for _ in range(3):
            strides = 1 if x.shape[-1] == filters else 2
            shortcut = x if strides == 1 else conv(x, filters, 1, strides)
            x = conv(k.layers.ReLU()(conv(x, filters, 3, strides)), filters, 3, 1)
            x = k.layers.ReLU()(k.layers.Add()([x, shortcut]))
    return k.Model(inputs, k.layers.Dense(10)(k.layers.GlobalAveragePooling2D()(x)))


def mobilenet(k):
    """Returns MobileNet for images of 96 pixels in the Keras module `k`."""
    return k.applications.MobileNet(
        (96, 96, 3), weights=None, classes=10, classifier_activation=None
    )


def timer(k, model, data, steps, callbacks=(), **kwargs):
    """Returns a function that trains for some steps and returns the milliseconds of one."""
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(k.optimizers.Adam(), loss, **kwargs)

    def run():
        start = time.perf_counter()
        model.fit(data, epochs=1, steps_per_epoch=steps, verbose=0, callbacks=list(callbacks))
        return (time.perf_counter() - start) / steps * 1e3

    run()
    return run


class Repeated(keras.utils.PyDataset):
    """A data set that repeats one batch."""

    def __init__(self, batch, steps):
        super().__init__()
        self.batch, self.steps = batch, steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return self.batch


def repeated(batch, steps):
    """Returns a data set that repeats the batch and takes almost no time to read."""
    if keras.backend.backend() != "tensorflow":
        return Repeated(batch, steps)
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(batch).cache().repeat()


def compare(pairs, plain, sparse):
    """Returns medians of two timers that alternate."""
    times = [(plain(), sparse()) for _ in range(pairs)]
    return {
        "plain_ms": statistics.median(a for a, _ in times),
        "sparse_ms": statistics.median(b for _, b in times),
        "ratio": statistics.median(b / a for a, b in times),
    }


def tfmot_sparse(model):
    """Returns the model pruned by TFMOT, and the callback it needs."""
    import tensorflow_model_optimization as tfmot

    sparsity = tfmot.sparsity.keras
    schedule = sparsity.ConstantSparsity(SPARSITY, begin_step=0, frequency=100)
    return sparsity.prune_low_magnitude(model, schedule), [sparsity.UpdatePruningStep()]


def measure(build, jit):
    """Returns the comparisons for one architecture."""
    batch_size, steps, pairs = SIZES[build.__name__]
    rng = np.random.default_rng(0)
    shape = build(keras).input_shape[1:]
    x = rng.random((batch_size, *shape), dtype="float32")
    data = repeated((x, rng.integers(0, 10, batch_size)), steps)
    kwargs = {"jit_compile": True} if jit else {}
    plain = timer(keras, build(keras), data, steps, **kwargs)
    sparse = timer(keras, tfl.sparsify(build(keras), SPARSITY), data, steps, **kwargs)
    results = {"tf_lottery": compare(pairs, plain, sparse)}
    has_tfmot = importlib.util.find_spec("tensorflow_model_optimization") is not None
    if keras.backend.backend() == "tensorflow" and has_tfmot and not jit:
        import tf_keras

        model, callbacks = tfmot_sparse(build(tf_keras))
        plain = timer(tf_keras, build(tf_keras), data, steps)
        results["tfmot"] = compare(pairs, plain, timer(tf_keras, model, data, steps, callbacks))
    return results


def main():
    """Measures all architectures and records the medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jit", action="store_true", help="compile with XLA")
    parser.add_argument(
        "--models", nargs="+", choices=SIZES, default=list(SIZES), help="measure only these"
    )
    args = parser.parse_args()
    results = {}
    for build in (lenet_300_100, resnet_20, mobilenet):
        if build.__name__ in args.models:
            results[build.__name__] = measure(build, args.jit)
            print(build.__name__, results[build.__name__], flush=True)
    settings = {"sparsity": SPARSITY, "sizes": SIZES, "jit_compile": args.jit, "seed": 0}
    name = f"step_cost_{keras.backend.backend()}{'_jit' if args.jit else ''}"
    record.update(name, settings, results)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
