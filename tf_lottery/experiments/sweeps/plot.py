"""The picture of a sweep: test accuracy against density, and what each training costs."""

import os

from tf_lottery import extras, files

# The areas of the marks of a training that costs nothing and of the dearest one, and of one whose
# cost is not known, in points squared.
_LEAST, _MOST, _UNKNOWN = 15, 400, 40


def plot_lines(lines, path):
    """Draws groups of runs, with a line for every label.

    Args:
        lines: Dict of labels to lists of groups, as `SweepResult.summary` returns them.
        path: File of the picture, such as a `.png`.

    Raises:
        ImportError: If matplotlib is not installed.
        OSError: If the file cannot be written.
    """
    extras.require("plots", "matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    dearest = max((_flops(group) for groups in lines.values() for group in groups), default=0)
    for label, groups in lines.items():
        _draw(axis, label, sorted(groups, key=lambda group: group["density"]["mean"]), dearest)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.margins(0.1)
    axis.invert_xaxis()
    axis.set_xlabel("Weights remaining (%)")
    axis.set_ylabel("Test accuracy (%)")
    axis.grid(alpha=0.3)
    if dearest:
        axis.set_title("Area of a mark: FLOPs of all trainings", fontsize="medium")
    if lines:
        axis.legend(fontsize="small")
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format=os.path.splitext(path)[1][1:] or "png")


def _draw(axis, label, groups, dearest):
    densities = [100 * group["density"]["mean"] for group in groups]
    means = [100 * group["test_accuracy"]["mean"] for group in groups]
    errors = [100 * (group["test_accuracy"]["std"] or 0) for group in groups]
    # Bars of no length would look like a mark.
    drawn = axis.errorbar(densities, means, errors if any(errors) else None, fmt="-", capsize=3)
    color = drawn[0].get_color()
    areas = [_area(_flops(group), dearest) for group in groups]
    axis.scatter(densities, means, areas, color=color, alpha=0.6)
    # A mark of one size for the legend.
    axis.plot([], [], "o", color=color, alpha=0.6, label=label)


def _flops(group):
    return group.get("training_flops", {"mean": 0})["mean"]


def _area(flops, dearest):
    return _LEAST + (_MOST - _LEAST) * flops / dearest if dearest else _UNKNOWN
