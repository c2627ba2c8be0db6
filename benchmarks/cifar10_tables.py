"""The table of dynamic sparse training on CIFAR-10, from the recorded results."""

import record
from markdown import percent, table

COLUMNS = {
    "Adam, 98%": ("adam", 0.98),
    "Adam, 90%": ("adam", 0.9),
    "SGD, 98%": ("sgd", 0.98),
    "SGD, 90%": ("sgd", 0.9),
}
ROWS = {
    "dense": ("dense", 1, None),
    "static mask": ("static", 1, None),
    "SET": ("set", 1, None),
    "SNFS": ("snfs", 1, None),
    "RigL": ("rigl", 1, None),
    "SNIP, global ranking": ("snip", 1, None),
    "GraSP, global ranking": ("grasp", 1, None),
    "SynFlow, global ranking": ("synflow", 1, None),
    "gradual pruning, global ranking": ("gmp", 1, None),
    "gradual pruning, ERK": ("gmp", 1, "erk"),
    "dense, 3x steps": ("dense", 3, None),
    "static mask, 3x steps": ("static", 3, None),
    "RigL, 3x steps": ("rigl", 3, None),
}
DIFFERENCES = {"RigL - static": ("rigl", "static"), "SET - static": ("set", "static")}
DIFFERENCES["RigL - SET"] = ("rigl", "set")


def dynamic_cifar10():
    """Returns the table of methods at equal steps, and of their differences seed by seed."""
    results = record.read("dynamic_cifar10")["results"]
    rows = []
    for name, (method, length, distribution) in ROWS.items():
        cells = []
        for optimizer, sparsity in COLUMNS.values():
            fields = {
                "method": method,
                "length": length,
                "distribution": distribution,
                "optimizer": optimizer,
                "sparsity": None if method == "dense" else sparsity,
            }
            cells.append(_cell(results["summary"], fields))
        if any(cells):
            rows.append([name, *cells])
    for name, methods in DIFFERENCES.items():
        cells = [_difference(results["differences"], *methods, *c) for c in COLUMNS.values()]
        rows.append([f"*{name}*", *cells])
    return table(["method", *COLUMNS], rows)


def _cell(summary, fields):
    found = [case for case in summary if all(case[k] == v for k, v in fields.items())]
    if not found:
        return ""
    accuracy = found[0]["test_accuracy"]
    deviation = "" if accuracy["std"] is None else f" ± {percent(accuracy['std'])}"
    return f"{percent(accuracy['mean'])}{deviation} ({found[0]['seeds']})"


def _difference(differences, better, worse, optimizer, sparsity):
    """Returns a mean difference with its standard error and the number of seeds."""
    suffix = "" if optimizer == "adam" else f"_{optimizer}"
    names = [f"{method}_{sparsity:g}_1x{suffix}" for method in (better, worse)]
    for found in differences:
        if [found["better"], found["worse"]] == names and found["seeds"]:
            error = found["standard_error"]
            deviation = "" if error is None else f" ± {percent(error)}"
            return f"{100 * found['mean']:+.2f}{deviation} ({found['seeds']})"
    return ""
