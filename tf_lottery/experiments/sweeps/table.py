"""The table of the results of a sweep."""

from tf_lottery.analysis.flops_report import share_of_weights
from tf_lottery.printable import FittingTable, plain_table


def _percent(measure):
    std = "" if measure["std"] is None else f" ± {measure['std']:.2%}"
    return f"{measure['mean']:.2%}{std}"


def _count(measure):
    return f"{measure['mean']:,.0f}"


def _flops(measure):
    return f"{measure['mean']:.1e}".replace("e+0", "e").replace("e+", "e")


# The results that have a column: its heading, and how a mean is written.
_COLUMNS = {
    "density": ("Density", lambda measure: f"{measure['mean']:.2%}"),
    "test_accuracy": ("Test\nacc.", _percent),
    "steps": ("Steps", _count),
    "training_flops": ("Train\nFLOPs", _flops),
    "file_bytes": ("File\nbytes", _count),
    "file_accuracy": ("File\nacc.", lambda measure: f"{measure['mean']:.2%}"),
    "file_milliseconds": ("File\nms", lambda measure: f"{measure['mean']:.2g}"),
}
# What is left out first where there is no room.
_OPTIONAL = ("steps", "file_accuracy", "export", "training_flops", "file_milliseconds", "density")


def results_table(groups, varied):
    """Returns the table of a sweep, for a console of any width.

    Args:
        groups: List of dicts, as `SweepResult.summary` returns them.
        varied: Tuple of the names of the settings in which runs differ.
    """
    # A word beside the method says what was retrained.
    names = [name for name in varied if name != "retrained"]
    settings = [n for n in names if any(group[n] is not None for group in groups)]
    measured = [name for name in _COLUMNS if any(name in group for group in groups)]
    optional = tuple(n for n in _OPTIONAL if n in (*settings, *measured))

    def make(left_out):
        shown = [name for name in (*settings, *measured) if name not in left_out]
        return _make(groups, [n for n in shown if n in settings], shown, left_out)

    return FittingTable(make, optional)


def _make(groups, settings, shown, left_out):
    # No space on the left, so that more columns fit.
    table = plain_table(caption_justify="left", padding=(0, 1, 0, 0))
    for name in settings:
        table.add_column(_heading(name), overflow="fold")
    measured = [name for name in shown if name not in settings]
    for name in measured:
        table.add_column(_heading(name), justify="right")
    for group in groups:
        cells = [method_of(group) if n == "method" else text_of_cell(group[n]) for n in settings]
        for name in measured:
            cells.append(_COLUMNS[name][1](group[name]) if name in group else "")
        table.add_row(*cells)
    table.caption = _caption(groups, left_out)
    return table


def _caption(groups, left_out):
    seeds = sorted({group["seeds"] for group in groups})
    lines = [] if seeds in ([], [1]) else [f"Mean ± standard deviation over {_range(seeds)} seeds"]
    covered = min((g["flops_coverage"]["mean"] for g in groups if "flops_coverage" in g), default=1)
    if covered < 1 and "training_flops" not in left_out:
        lines.append(f"Train FLOPs cover only {share_of_weights(covered)}")
    if left_out:
        names = [_heading(name).replace("\n", " ") for name in left_out]
        lines.append(f"No room for: {', '.join(names)} (in results.csv)")
    return "\n".join(lines) or None


def _heading(name):
    return _COLUMNS[name][0] if name in _COLUMNS else name.replace("_", " ").capitalize()


def _range(seeds):
    return f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"


def method_of(group):
    """Returns the method of a row, and whether its ticket was trained again, as a text.

    Args:
        group: Dict of the settings of a row.

    Example:

    >>> method_of({"method": "imp", "retrained": True}), method_of({"method": None})
    ('imp, retrained', '')
    """
    method = group.get("method") or ""
    return f"{method}, retrained" if group.get("retrained") and method else method


def text_of_cell(value):
    """Returns a setting as a text.

    Args:
        value: A setting, `None` if it has none.
    """
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else f"{value}"
