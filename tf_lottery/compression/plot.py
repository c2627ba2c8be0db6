"""Draws the files of a compression."""

import os

from tf_lottery import extras

_PANELS = {"bytes": ("num_bytes", "Bytes"), "milliseconds": ("latency_ms", "Milliseconds")}


def plot_compression(result, path: str | os.PathLike) -> None:
    """Draws the accuracy of files against bytes, and against milliseconds.

    Files that meet all limits are filled, the recommended one has a ring, and lines show the
    limits.

    Args:
        result: A `tf_lottery.Compression`.
        path: Path of the image file, for example a `.png`.

    Raises:
        OSError: If the file cannot be written.
    """
    extras.require("plots", "matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    for axis, (kind, (name, label)) in zip(figure.subplots(1, 2), _PANELS.items(), strict=True):
        _draw(axis, result, name)
        axis.axhline(100 * (result.dense_accuracy - result.max_drop), color="gray", ls=":")
        if kind in result.budget:
            axis.axvline(result.budget[kind], color="gray", ls=":")
        axis.set_xscale("log")
        low, high = axis.get_xlim()
        is_wide = high > 10 * low
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if is_wide else MaxNLocator(5))
        axis.xaxis.set_major_formatter("{x:,g}")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel(label)
        axis.set_ylabel("Accuracy on validation data (%)")
        axis.grid(alpha=0.3)
    if result.files:
        figure.axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def _draw(axis, result, name):
    fitting = result.fitting
    for i, structure in enumerate(dict.fromkeys(file.structure for file in result.files)):
        found = [file for file in result.files if file.structure == structure]
        for fits, label in ((True, structure), (False, None)):
            files = [file for file in found if (file in fitting) == fits]
            color = f"C{i}"
            axis.scatter(
                [getattr(file, name) for file in files],
                [100 * file.accuracy for file in files],
                facecolors=color if fits else "none",
                edgecolors=color,
                label=label,
            )
    if result.best is not None:
        point = [getattr(result.best, name)], [100 * result.best.accuracy]
        axis.scatter(*point, s=160, facecolors="none", edgecolors="black", label="recommended")
