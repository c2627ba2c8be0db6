"""What RigL costs: a training step with its updates, and one update of a large network.

    KERAS_BACKEND=tensorflow python benchmarks/rigl_cost.py
    KERAS_BACKEND=jax python benchmarks/rigl_cost.py

LeNet-300-100 and ResNet-20 (TensorFlow only: on a CPU, JAX convolves too slowly) at batch 128 and
90% sparsity (ERK), Adam, on one batch that is repeated. The plain Keras model, the same model
masked, and RigL with an update every 100 steps train in turns within one process; a round gives
the milliseconds of a step of each over 100 steps (5 with ResNet-20, the update's time counted at
a twentieth), compilation excluded, and the ratios are medians over the rounds. Then the masks of
ResNet-50, 25.5 million weights, are updated once, with optimizer slots.

What it should show: RigL's step, updates included, takes at most 1.10 times the masked one.
In LeNet it takes more: 1.11 times on JAX, 1.24 on TensorFlow. Half of the difference on JAX is the
update itself, 7 to 10 ms in 100 steps of 1.4 ms: 3.6 ms select connections in NumPy, 4.2 ms set
masks, kernels and slots, and 1 ms looks for values that are not finite. The compiled step accesses
as many bytes as the masked one.
"""

import argparse
import os
import statistics
import time

import keras
import numpy as np
import record
from step_cost import repeated

import tf_lottery as tfl
from tf_lottery.experiments import models

SPARSITY, FREQUENCY, BATCH_SIZE = 0.9, 100, 128
# Steps of a timed window, windows in a round, rounds.
SIZES = {"lenet_300_100": (100, 3, 8), "resnet_20": (5, 1, 4)}


class Window(keras.callbacks.Callback):
    """Measures the time of steps in windows, the first of which compiles and is left out."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.seconds, self.start = steps, [], None

    def on_train_batch_end(self, batch, logs=None):
        """Ends a window."""
        # Reading the loss waits for a backend that computes in the background.
        if (batch + 1) % self.steps == 0:
            float(logs["loss"])
            now = time.perf_counter()
            if self.start is not None:
                self.seconds.append(now - self.start)
            self.start = now


class TimedRigL(tfl.callbacks.RigL):
    """RigL that records how long its updates take."""

    seconds = 0.0

    def on_step(self):
        """Moves connections."""
        start = time.perf_counter()
        super().on_step()
        self.seconds = time.perf_counter() - start


def train(model, data, steps, windows, callbacks=()):
    """Returns the milliseconds of a step, a median over the windows of one `fit`."""
    window = Window(steps)
    total = steps * (windows + 1)
    # The window comes last, so that it includes the time of the other callbacks.
    model.fit(data, epochs=1, steps_per_epoch=total, verbose=0, callbacks=[*callbacks, window])
    return statistics.median(window.seconds) / steps * 1e3


def rigl(steps):
    """Returns RigL with one update in every window, without an end step."""
    return TimedRigL(frequency=steps, drop_fraction=0.3, end_step=10**9)


def measure(build):
    """Returns medians of the step times and their ratios for one architecture."""
    steps, windows, rounds = SIZES[build.__name__]
    rng = np.random.default_rng(0)
    contenders = {
        "plain": build(seed=0),
        "masked": tfl.sparsify(build(seed=0), SPARSITY, distribution="erk"),
        "rigl": tfl.sparsify(build(seed=0), SPARSITY, distribution="erk"),
    }
    shape = contenders["plain"].input_shape[1:]
    x = rng.random((BATCH_SIZE, *shape), dtype="float32")
    data = repeated((x, rng.integers(0, 10, BATCH_SIZE)), steps * (windows + 1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for model in contenders.values():
        model.compile("adam", loss)
    times = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, model in contenders.items():
            callbacks = [rigl(steps)] if name == "rigl" else []
            milliseconds = train(model, data, steps, windows, callbacks)
            if name == "rigl":
                # In a window shorter than the frequency, the update counts too much.
                surplus = callbacks[0].seconds * 1e3 * (1 / steps - 1 / FREQUENCY)
                milliseconds -= surplus
            times[name].append(milliseconds)
    pairs = {
        f"{a}_to_{b}": statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))
        for a, b in (("rigl", "masked"), ("rigl", "plain"), ("masked", "plain"))
    }
    return {**{f"{n}_ms": statistics.median(t) for n, t in times.items()}, **pairs}


def update_resnet_50():
    """Returns the seconds of an update of ResNet-50, a median of three."""
    model = tfl.sparsify(models.resnet_50(seed=0), SPARSITY, distribution="erk")
    model.compile("adam", "sparse_categorical_crossentropy")
    method = TimedRigL(frequency=1, drop_fraction=0.3, end_step=10)
    method.set_params({"epochs": 1, "steps": 10})
    method.set_model(model)
    method.on_train_begin()
    rng = np.random.default_rng(0)
    for gradient in model.growth.gradients:
        gradient.assign(rng.normal(size=gradient.shape).astype("float32"))
    method.on_epoch_begin(0)
    method.on_train_batch_begin(0)
    seconds = []
    for step in (1, 2, 3):
        method._count.step = step
        method.on_step()
        seconds.append(method.seconds)
    size = sum(mask.size for mask in model.get_masks().values())
    return {"num_weights": size, "seconds": statistics.median(seconds)}


def main():
    """Measures and records everything, or the named parts."""
    parts = {
        "lenet_300_100": lambda: measure(models.lenet_300_100),
        "resnet_20": lambda: measure(models.resnet_20),
        "resnet_50_update": update_resnet_50,
    }
    if keras.backend.backend() != "tensorflow":
        del parts["resnet_20"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--parts", nargs="+", choices=parts, default=list(parts), help="measure only these"
    )
    results = {}
    for name in parser.parse_args().parts:
        results[name] = parts[name]()
        print(name, results[name], flush=True)
    settings = {"sparsity": SPARSITY, "frequency": FREQUENCY, "batch_size": BATCH_SIZE, "seed": 0}
    record.update(f"rigl_cost_{keras.backend.backend()}", {**settings, "sizes": SIZES}, results)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
