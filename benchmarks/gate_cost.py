"""What gates cost per training step, against plain Keras.

    KERAS_BACKEND=tensorflow python benchmarks/gate_cost.py
    KERAS_BACKEND=tensorflow python benchmarks/gate_cost.py --jit
    KERAS_BACKEND=jax python benchmarks/gate_cost.py

Run it on an idle machine. LeNet-300-100 and ResNet-20 at batch 128, Adam, on one batch that is
repeated; plain and gated model train in turns within one process, and the ratio is the median
over pairs. A third model is the plain one with as many additional, unused weights as there are
gates: it shows the cost of the optimizer alone.

What it should show: a step of a convolutional network takes as long with gates as without. In
LeNet, whose steps are little more than the optimizer's work on its weights, it takes 1.3 to
1.5 times as long; 1.1 to 1.3 times is what the optimizer takes for twice the weights. On top of
that, gates should take at most 1.10 times as long with XLA and on JAX, and 1.20 times in
TensorFlow's graph mode. With XLA and on JAX they take about 1.25 times: the compiled step accesses
16 MB, 28 MB with the unused weights, and 42 MB with gates. The sigmoid and the product are two
arrays more that are written, their sum is a pass, and each pass of Adam over the gates computes the
gradient again from three arrays. In TensorFlow's graph mode, where every operation is a pass, a
step has eleven more per kernel.
"""

import argparse
import os
import statistics

import keras
import numpy as np
import record
import step_cost

import tf_lottery as tfl

MODELS = {"lenet_300_100": step_cost.lenet_300_100, "resnet_20": step_cost.resnet_20}


class IdleWeights(keras.layers.Layer):
    """Returns its inputs, and has weights with a constant gradient.

    Args:
        shapes: List of tuples.
    """

    def __init__(self, shapes):
        super().__init__()
        self.shapes, self.idle = shapes, []

    def build(self, input_shape):
        """Creates the weights."""
        self.idle = [self.add_weight(shape=shape, initializer="zeros") for shape in self.shapes]

    def call(self, inputs):
        """Returns the inputs."""
        for weight in self.idle:
            self.add_loss(1e-8 * keras.ops.sum(weight))
        return inputs


def with_idle_weights(build):
    """Returns a model with an additional weight for every gate that it would have."""
    model = build(keras)
    shapes = [tuple(kernel.shape) for kernel in tfl.layers.find_kernels(model).kernels]
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, model(IdleWeights(shapes)(inputs)))


def measure(build, jit):
    """Returns the medians for one architecture."""
    batch_size, steps, pairs = step_cost.SIZES[build.__name__]
    rng = np.random.default_rng(0)
    shape = build(keras).input_shape[1:]
    x = rng.random((batch_size, *shape), dtype="float32")
    data = step_cost.repeated((x, rng.integers(0, 10, batch_size)), steps)
    kwargs = {"jit_compile": True} if jit else {}
    contenders = {
        "plain": build(keras),
        "idle": with_idle_weights(build),
        "gated": tfl.sparsify(build(keras), gate=tfl.SoftGate()),
    }
    timers = {
        name: step_cost.timer(keras, model, data, steps, **kwargs)
        for name, model in contenders.items()
    }
    rounds = [{name: timer() for name, timer in timers.items()} for _ in range(pairs)]
    return {
        **{f"{name}_ms": statistics.median(times[name] for times in rounds) for name in timers},
        "ratio": statistics.median(times["gated"] / times["plain"] for times in rounds),
        "idle_ratio": statistics.median(times["idle"] / times["plain"] for times in rounds),
        "gated_to_idle": statistics.median(times["gated"] / times["idle"] for times in rounds),
    }


def main():
    """Measures and records the medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jit", action="store_true", help="compile with XLA")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="measure only these")
    args = parser.parse_args()
    # XLA makes convolutions on a CPU slower.
    names = args.models or ["lenet_300_100", *([] if args.jit else ["resnet_20"])]
    results = {}
    for name in names:
        results[name] = measure(MODELS[name], args.jit)
        print(name, results[name], flush=True)
    name = f"gate_cost_{keras.backend.backend()}{'_jit' if args.jit else ''}"
    record.update(name, {"jit_compile": args.jit, "seed": 0}, results)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
