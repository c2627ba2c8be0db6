"""The memory of a process over many trainings, levels of a search, and exports.

    python benchmarks/memory_growth.py

What it should show: 200 calls of `fit` with RigL, 30 levels of a search and 50 exports each add
less than 5% to the memory that the process has after the first few, when compiled functions and
caches are there. The last row is a plain Keras model that is compiled before each of 200 calls of
`fit`: TensorFlow keeps some memory of every function that it has compiled, so that a loop which
compiles again and again grows whatever the model. Three minutes on one CPU core.
"""

import gc
import pathlib
import tempfile

import keras
import numpy as np
import record
from export_models import keep_processes

import tf_lottery as tfl

FITS, LEVELS, EXPORTS = 200, 30, 50
# The share of the steps after which the memory is measured for the first time.
WARM = 0.2


def resident_bytes():
    """Returns the memory of this process that is in use now."""
    gc.collect()
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def growth(measured):
    """Returns the memory at the start, at the end, and by which share it grew in between."""
    first = measured[int(WARM * len(measured))]
    return {
        "measured": len(measured),
        "warm_bytes": first,
        "last_bytes": measured[-1],
        "most_bytes": max(measured),
        "growth": measured[-1] / first - 1,
    }


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
    return model


def make_model():
    layers = [keras.Input((64,)), *(keras.layers.Dense(n, "relu") for n in (300, 100))]
    return keras.Sequential([*layers, keras.layers.Dense(10)])


def fits(x, y):
    """Trains one model again and again, each time with a new callback that changes masks."""
    sparse = compiled(tfl.sparsify(make_model(), 0.9, scores="random", seed=0))
    for number in range(FITS):
        moving = tfl.callbacks.RigL(frequency=2, end_step=10**6)
        sparse.fit(x, y, batch_size=100, verbose=0, callbacks=[moving])
        # Collecting garbage takes longer than a fit.
        if number % 10 == 9:
            yield resident_bytes()


def plain_fits_compiled_anew(x, y):
    """Trains a plain model again and again, and compiles it each time."""
    model = make_model()
    for number in range(FITS):
        compiled(model).fit(x, y, batch_size=100, verbose=0)
        if number % 10 == 9:
            yield resident_bytes()


def levels(x, y):
    """Searches tickets with a folder, so that every level writes snapshots and a ticket."""
    with tempfile.TemporaryDirectory() as folder:
        search = tfl.callbacks.IterativeMagnitudePruning(
            LEVELS, 1, rate=0.1, directory=folder, verbose=0
        )
        measured = []
        measure = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: measured.append(resident_bytes())
        )
        sparse = compiled(tfl.sparsify(make_model()))
        sparse.fit(
            x,
            y,
            batch_size=100,
            epochs=search.epochs,
            shuffle=False,
            verbose=0,
            callbacks=[search, measure],
        )
    yield from measured


def exports(x, _):
    """Exports one model again and again. Other processes convert and run the files."""
    keep_processes()
    sparse = tfl.sparsify(make_model(), 0.9)
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(EXPORTS):
            tfl.export_tflite(sparse, f"{folder}/model.tflite", x[:4], runs=1)
            yield resident_bytes()


def main():
    """Measures and records all of them."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(500, 64)).astype("float32"), rng.integers(0, 10, 500)
    results = {}
    for measure in (fits, levels, exports, plain_fits_compiled_anew):
        results[measure.__name__] = growth(list(measure(x, y)))
        print(measure.__name__, results[measure.__name__], flush=True)
    settings = {"fits": FITS, "levels": LEVELS, "exports": EXPORTS, "warm": WARM}
    record.write("memory_growth", settings, results)


if __name__ == "__main__":
    main()
