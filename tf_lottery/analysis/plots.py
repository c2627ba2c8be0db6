"""Pictures of results, drawn with matplotlib."""

LABELS = {"ticket": "winning ticket", "reinitialized": "random reinitialization"}


def plot_lottery(rows, path, title=""):
    """Draws learning speed and accuracy against density, figures 3 and 4 of the LTH paper.

    Args:
        rows: List of dicts as `tf_lottery.experiments.lottery.run_lottery` returns them;
            several with the same kind and level are replicates, shown as mean and range.
        path: File of the picture, for example a `.png`.
        title: String above the picture. Defaults to `""`.

    Raises:
        OSError: If the file cannot be written.
    """
    # The object-oriented interface leaves the user's pyplot figures and backend alone.
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
    line = axis.plot(
        densities, means, "o-" if kind == "ticket" else "s--", markersize=4, label=LABELS[kind]
    )[0]
    low, high = (
        [min(replicates) for replicates in values],
        [max(replicates) for replicates in values],
    )
    axis.fill_between(densities, low, high, color=line.get_color(), alpha=0.15)


def _set_density_ticks(axis, rows):
    from matplotlib.ticker import NullFormatter

    densities = sorted({round(100 * row["density"], 1) for row in rows}, reverse=True)
    ticks = densities[:: max(1, -(-len(densities) // 8))]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.xaxis.set_minor_formatter(NullFormatter())
