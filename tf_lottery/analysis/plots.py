"""Plots of results, drawn with matplotlib."""

import math
import os

import numpy as np

from tf_lottery import extras

LABELS = {
    "ticket": "winning ticket",
    "reinitialized": "random reinitialization",
    "rigl": "RigL",
}
_STYLES = {"ticket": "o-", "reinitialized": "s--", "rigl": "^:"}


def plot_lottery(rows: list, path: str | os.PathLike, *, title: str = "") -> None:
    """Draws learning speed and accuracy against density, figures 3 and 4 of the LTH paper.

    Args:
        rows: List of dicts as `run_lottery` and `run_rigl` of
            `tf_lottery.experiments.lottery` return them. Rows with the same kind and level are
            replicates, shown as mean and range.
        path: Path of the image file, for example a `.png`.
        title: String above the plot. Defaults to `""`.

    Raises:
        OSError: If the file cannot be written.
    """
    # The object-oriented interface leaves the user's pyplot figures and backend alone.
    extras.require("plots", "matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    panels = {
        "iteration": "Step of the lowest validation loss",
        "test_accuracy": "Test accuracy (%)",
    }
    for axis, (key, label) in zip(axes, panels.items(), strict=True):
        for kind in LABELS:
            _draw(axis, [row for row in rows if row["kind"] == kind], key, kind)
        axis.set_xscale("log")
        axis.invert_xaxis()
        axis.set_xlabel("Weights remaining (%)")
        axis.set_ylabel(label)
        _set_density_ticks(axis, rows)
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def plot_input_connections(
    before, after, path: str | os.PathLike, *, image_shape: tuple, title: str = ""
) -> None:
    """Draws how many connections leave every input pixel, before and after training.

    Shows a result of "Rigging the Lottery" (arXiv:1911.11134, appendix on MNIST): RigL moves
    connections from uninformative pixels to informative ones.

    Args:
        before: Boolean array of shape `(pixels, units)`, the mask of the first dense kernel
            before training.
        after: The same after training.
        path: Path of the image file, for example a `.png`.
        image_shape: Tuple, the shape of one image, `(rows, columns)` or `(rows, columns,
            channels)`. Connections of all channels are added.
        title: String above the plot. Defaults to `""`.

    Raises:
        ValueError: If a mask does not have a row for every pixel.
        OSError: If the file cannot be written.

    Example:

    >>> before, after = np.eye(64, dtype=bool), np.ones((64, 10), bool)
    >>> plot_input_connections(before, after, "pixels.png", image_shape=(8, 8, 1))
    """
    extras.require("plots", "matplotlib")
    from matplotlib.figure import Figure

    counts = {
        "before training": connections_per_pixel("before", before, image_shape),
        "after training": connections_per_pixel("after", after, image_shape),
    }
    highest = max(count.max() for count in counts.values())
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, (when, count) in zip(axes, counts.items(), strict=True):
        image = axis.imshow(count, vmin=0, vmax=highest)
        axis.set_title(f"{when}: {np.mean(count == 0):.0%} of pixels unused")
        axis.set_axis_off()
    figure.colorbar(image, ax=axes, label="Connections of the pixel")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def plot_sensitivity(result, path: str | os.PathLike, *, title: str = "") -> None:
    """Draws by how much pruning each kernel alone worsens a model, as a heat map.

    Args:
        result: A `tf_lottery.Sensitivity`.
        path: Path of the image file, for example a `.png`.
        title: String above the plot. Defaults to `""`.

    Raises:
        OSError: If the file cannot be written.

    Example:

    >>> result = tfl.sensitivity(sparse, x, sparsities=(0.95, 0.99), verbose=0)
    >>> plot_sensitivity(result, "sensitivity.png")
    """
    extras.require("plots", "matplotlib")
    from matplotlib.figure import Figure

    damages = np.array([result.damages(row) for row in result.rows])
    figure = Figure(figsize=(6, 1.5 + 0.3 * len(damages)), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(damages, aspect="auto", cmap="viridis")
    axis.set_xticks(range(len(result.sparsities)), [f"{100 * s:g}" for s in result.sparsities])
    axis.set_yticks(range(len(damages)), [row.name for row in result.rows])
    axis.set_xlabel("Zeros in the kernel (%)")
    what = "Loss of accuracy" if result.measure == "accuracy" else f"Increase of {result.measure}"
    figure.colorbar(image, ax=axis, label=what)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def connections_per_pixel(name: str, mask, image_shape: tuple) -> np.ndarray:
    """Returns how many weights of the first kernel belong to every pixel, over all channels.

    Args:
        name: String, the argument's name for the message.
        mask: Boolean array of shape `(inputs, units)`.
        image_shape: Tuple `(rows, columns)` or `(rows, columns, channels)`.

    Returns:
        Integer array of shape `(rows, columns)`.

    Raises:
        ValueError: If the mask does not have a row for every pixel and channel.

    Example:

    >>> connections_per_pixel("mask", np.array([[True, True], [False, True]]), (1, 2))
    array([[2, 1]])
    """
    mask = np.asarray(mask)
    inputs = math.prod(image_shape)
    if mask.ndim != 2 or len(mask) != inputs:
        raise ValueError(
            f"Argument `{name}` must be a mask of shape ({inputs}, units), for images of shape "
            f"{tuple(image_shape)}. Received: an array of shape {mask.shape}"
        )
    counts = np.count_nonzero(mask, axis=1).reshape(image_shape)
    return counts.sum(axis=2) if counts.ndim == 3 else counts


def _draw(axis, rows, key, kind):
    factor = 100.0 if "accuracy" in key else 1.0
    points = {}
    for row in rows:
        points.setdefault(row["level"], []).append((100 * row["density"], factor * row[key]))
    if not points:
        return
    densities = [values[0][0] for values in points.values()]
    values = [[value for _, value in replicates] for replicates in points.values()]
    means = [sum(replicates) / len(replicates) for replicates in values]
    line = axis.plot(densities, means, _STYLES[kind], markersize=4, label=LABELS[kind])[0]
    low, high = (
        [min(replicates) for replicates in values],
        [max(replicates) for replicates in values],
    )
    axis.fill_between(densities, low, high, color=line.get_color(), alpha=0.15)


def _set_density_ticks(axis, rows):
    from matplotlib.ticker import NullFormatter

    tickets = [row for row in rows if row["kind"] == "ticket"]
    densities = sorted({round(100 * row["density"], 1) for row in tickets}, reverse=True)
    ticks = densities[:: max(1, -(-len(densities) // 8))]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.xaxis.set_minor_formatter(NullFormatter())
