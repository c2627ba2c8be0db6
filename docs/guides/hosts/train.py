"""Trains with RigL on all devices of all hosts. The same program runs once on every host.

The environment variables `COORDINATOR`, `NUM_PROCESSES` and `PROCESS_ID` say who takes part;
without them the program trains alone. `FOLDER` is a folder on a disk that all hosts share.
"""

import os
import pathlib

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np

import tf_lottery as tfl
from tf_lottery.experiments.checkpoint import Checkpoint

BATCH_SIZE, EPOCHS = 64, 5


def join():
    """Joins the other processes, and distributes the model that is made from now on."""
    if "NUM_PROCESSES" in os.environ:
        # For CPUs. With other devices, Keras agrees on a seed through it.
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(
            os.environ["COORDINATOR"],
            int(os.environ["NUM_PROCESSES"]),
            int(os.environ["PROCESS_ID"]),
        )
    # Every process passes its own share of the data, which Keras must not divide again.
    parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(parallel)
    return jax.process_index(), jax.process_count()


def examples(share, shares):
    """Returns this process's share of the data, equally many examples in all."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1024, 32)).astype("float32"), rng.integers(0, 10, 1024)
    return x[share::shares], y[share::shares]


def main():
    """Trains, or goes on after a kill, and saves the plain model."""
    share, shares = join()
    folder = pathlib.Path(os.environ.get("FOLDER", "."))
    x, y = examples(share, shares)
    layers = [keras.Input((32,)), keras.layers.Dense(256, "relu"), keras.layers.Dense(10)]
    sparse = tfl.sparsify(keras.Sequential(layers), sparsity=0.9, scores="random")
    sparse.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callbacks = [Checkpoint(folder / "checkpoint.npz"), tfl.callbacks.RigL(frequency=5)]
    # Batches in a fixed order, so that a training that was killed ends with the same weights.
    sparse.fit(
        x,
        y,
        batch_size=BATCH_SIZE // shares,
        epochs=EPOCHS,
        shuffle=False,
        callbacks=callbacks,
        verbose=2 if share == 0 else 0,
    )
    plain = tfl.strip(sparse)
    if share == 0:
        plain.save(folder / "model.keras")
        print(f"saved {folder / 'model.keras'}")
    if shares > 1:
        # The first process is the coordinator of all, and waits for the others.
        jax.distributed.shutdown()


if __name__ == "__main__":
    main()
