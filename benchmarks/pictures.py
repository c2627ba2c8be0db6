"""Draws the pictures of the documentation, from seeds and from the recorded results.

    python benchmarks/pictures.py [--data-dir DIR] [NAME ...]

`masks` trains on MNIST, `gates` on the digits of scikit-learn, a minute together on one CPU core;
the others take seconds. Pictures are written to `docs/pictures`.
"""

import argparse
import pathlib
import statistics

import keras
import numpy as np
import record
from matplotlib.figure import Figure
from PIL import Image

import tf_lottery as tfl
from tf_lottery.analysis.plots import plot_input_connections
from tf_lottery.experiments import data, models

PICTURES = pathlib.Path(__file__).parents[1] / "docs" / "pictures"
KEPT = {"cs": "gates, 16 epochs for each point", "gmp": "gradual, 12 epochs"}


def masks(path, data_dir):
    """Draws the connections of pixels before and after RigL."""
    mnist = data.load("mnist", data_dir=data_dir)
    model = models.lenet_300_100(mnist.input_shape, mnist.num_classes, seed=0)
    sparse = tfl.sparsify(model, 0.98, distribution="erk", scores="random", seed=0)
    name, before = next(iter(sparse.get_masks().items()))
    compile_for(sparse, keras.optimizers.Adam(1.2e-3))
    sparse.fit(*mnist.train, 60, epochs=4, callbacks=[tfl.callbacks.RigL(50)], verbose=0)
    after = sparse.get_masks()[name]
    plot_input_connections(before, after, path, image_shape=mnist.input_shape)


def gates(path, data_dir):
    """Draws how gates decide in the rounds of a search."""
    digits = data.load("digits")
    model = models.lenet_300_100(digits.input_shape, digits.num_classes, seed=0)
    sparse = tfl.sparsify(model, gate=tfl.SoftGate())
    compile_for(sparse, keras.optimizers.Adam(1.2e-3))
    search = tfl.callbacks.ContinuousSparsification(25, target_density=0.1)
    sparse.fit(*digits.train, 60, epochs=search.epochs, callbacks=[search], verbose=0)
    figure, axis = new_plot("Epoch", "Share of the weights (%)")
    for name, label in (("density", "gates above 0: kept"), ("undecided", "undecided gates")):
        shares = [100 * v for part in search.history for v in part["logs"].get(name, [])]
        axis.plot(range(1, len(shares) + 1), shares, label=label)
    for number in range(1, search.rounds + 1):
        axis.axvline(number * search.epochs_per_round + 0.5, color="gray", ls=":")
    axis.legend()
    figure.savefig(path, dpi=100)


def density(path, data_dir):
    """Draws the accuracy of tickets and of gradual pruning against density."""
    rows = record.read("continuous_mnist")["results"]["rows"]
    figure, axis = new_plot("Weights kept (%)", "Validation accuracy (%)")
    levels = [row["levels"] for row in rows if row["method"] == "imp"]
    draw_means(axis, zip(*levels, strict=True), "magnitude, 4 epochs for each level")
    for method, label in KEPT.items():
        found = [row for row in rows if row["method"] == method and row["sparsity"]]
        wanted = sorted({row["sparsity"] for row in found})
        points = [[row for row in found if row["sparsity"] == value] for value in wanted]
        draw_means(axis, points, label)
    axis.set_xscale("log")
    axis.invert_xaxis()
    ticks = (100, 50, 20, 10, 5, 2, 1)
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.legend()
    figure.savefig(path, dpi=100)


def draw_means(axis, points, label):
    """Draws a curve of means over seeds, with the range of the seeds."""
    points = [
        [(100 * r["density"], 100 * r["validation_accuracy"]) for r in rows] for rows in points
    ]
    densities = [statistics.mean(d for d, _ in rows) for rows in points]
    accuracies = [[a for _, a in rows] for rows in points]
    axis.plot(densities, [statistics.mean(found) for found in accuracies], "o-", label=label)
    low, high = [min(found) for found in accuracies], [max(found) for found in accuracies]
    axis.fill_between(densities, low, high, alpha=0.15)


def channels(path, data_dir):
    """Draws which weights of three layers go when channels are pruned."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    stem = keras.layers.Conv2D(12, 3, padding="same", name="stem")(inputs)
    branch = keras.layers.Conv2D(12, 1, name="branch")(keras.layers.ReLU()(stem))
    hidden = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([stem, branch]))
    model = keras.Model(inputs, keras.layers.Dense(6, name="output")(hidden))
    sparse = tfl.sparsify(model, 0.5, pattern="channel", scores="l2")
    kept = {name.split("/")[0]: mask for name, mask in sparse.get_masks().items()}
    alive = kept["branch"].any(axis=(0, 1, 2))
    views = {"stem": kept["stem"], "branch": kept["branch"]}
    views = {name: mask.reshape(-1, mask.shape[-1]).astype(float) for name, mask in views.items()}
    # What reads a dead channel has no effect, and is removed with it.
    views["branch"] *= np.where(alive, 1, 0.5)[:, None]
    views["output"] = np.where(alive, 1.0, 0.5)[:, None] * np.ones(6)
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    for axis, (name, view) in zip(figure.subplots(1, 3), views.items(), strict=True):
        axis.imshow(view, vmin=0, vmax=1, cmap="Blues", aspect="auto")
        axis.set_title(name)
        axis.set_xlabel("channels made")
        axis.set_ylabel("weights of inputs")
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(path, dpi=100)


def front(path, data_dir):
    """Draws the files that `tfl.compress` has made of a network for a watch."""
    found = record.read("compress_gestures")["results"]
    names = ("budget", "max_drop", "dense_accuracy", "standard_error", "accuracies", "problems")
    files = [tfl.CompressedFile(**file) for file in found["files"]]
    tfl.Compression(directory="", files=files, **{n: found[n] for n in names}).plot(path)


def new_plot(xlabel, ylabel):
    """Returns a figure and its axis."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.grid(alpha=0.3)
    return figure, axis


def compile_for(sparse, optimizer):
    """Compiles a classifier with outputs that are logits."""
    keras.utils.set_random_seed(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sparse.compile(optimizer, loss, metrics=["accuracy"])


ALL = {make.__name__: make for make in (masks, gates, density, channels, front)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ALL)} (default: all)")
    parser.add_argument("--data-dir", default=None)
    arguments = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    for chosen in arguments.names or ALL:
        picture = PICTURES / f"{chosen}.png"
        ALL[chosen](picture, arguments.data_dir)
        # Few colors make a file of a third of the bytes.
        Image.open(picture).convert("RGB").quantize(64).save(picture, optimize=True)
