"""Plots of the loss and error between networks, drawn with matplotlib."""

import os

import numpy as np

from tf_lottery import extras


def plot_connectivity(results: dict, path: str | os.PathLike, *, title: str = "") -> None:
    """Draws loss and error between two networks, figure 2 of "Linear Mode Connectivity".

    Args:
        results: Dict of labels to a `Connectivity`, or to a list of replicates, which are shown
            as mean and range, with the mean of their barriers.
        path: Path of the image file, for example a `.png`.
        title: String above the plot. Defaults to `""`.

    Raises:
        ValueError: If `results` is empty, or replicates have different points.
        OSError: If the file cannot be written.

    Example:

    >>> result = tfl.interpolate(sparse, other_sparse, sparse, (x_test, y_test), points=5)
    >>> plot_connectivity({"ticket": result}, "connectivity.png")
    """
    # The object-oriented interface leaves the user's pyplot figures and backend alone.
    extras.require("plots", "matplotlib")
    from matplotlib.figure import Figure

    lines = {label: _replicates(label, found) for label, found in results.items()}
    if not lines:
        raise ValueError("Argument `results` must hold at least one result. Received: {}")
    has_errors = all(one.errors is not None for found in lines.values() for one in found)
    panels = {"losses": "Loss", **({"errors": "Error (%)"} if has_errors else {})}
    size = 5 * len(panels), 4 + 0.2 * len(lines)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (key, label) in zip(axes, panels.items(), strict=True):
        for name, found in lines.items():
            _draw(axis, name, found, key)
        axis.set_xlabel("Share of the first network")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        # The curves fill the middle, so the legend is placed below.
        axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _replicates(label, found):
    found = list(found) if isinstance(found, list | tuple) else [found]
    if len({tuple(one.alphas) for one in found}) != 1:
        raise ValueError(
            f"Argument `results[{label!r}]` must have replicates of the same points. "
            f"Received: {sorted({len(one.alphas) for one in found})} points"
        )
    return found


def _draw(axis, name, found, key):
    factor, barriers = 1.0, [one.barrier_loss for one in found]
    text = "barrier {:.3f}"
    if key == "errors":
        factor, barriers = 100.0, [100 * one.barrier_error for one in found]
        text = "barrier {:.2f} points"
    values = factor * np.array([getattr(one, key) for one in found])
    label = f"{name}: {text.format(np.mean(barriers))}"
    line = axis.plot(found[0].alphas, values.mean(axis=0), "o-", markersize=3, label=label)[0]
    if len(found) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axis.fill_between(found[0].alphas, low, high, color=line.get_color(), alpha=0.15)
