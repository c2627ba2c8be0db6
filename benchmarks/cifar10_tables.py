"""The tables of methods on CIFAR-10 at 16 pixels, from the recorded results."""

import statistics

import continuous_cifar10 as continuous_cifar10_runs
import record
from comparison import Case
from comparison_cells import accuracy_cell, difference_cell
from markdown import mean_cell, table

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
DIFFERENCES = {
    "RigL - static": (("rigl", 1, None), ("static", 1, None)),
    "SET - static": (("set", 1, None), ("static", 1, None)),
    "RigL - SET": (("rigl", 1, None), ("set", 1, None)),
    "SNFS - RigL": (("snfs", 1, None), ("rigl", 1, None)),
    "SNIP - static": (("snip", 1, None), ("static", 1, None)),
    "GraSP - static": (("grasp", 1, None), ("static", 1, None)),
    "SynFlow - static": (("synflow", 1, None), ("static", 1, None)),
    "gradual, global - RigL": (("gmp", 1, None), ("rigl", 1, None)),
    "gradual, ERK - RigL": (("gmp", 1, "erk"), ("rigl", 1, None)),
    "RigL - static, 3x steps": (("rigl", 3, None), ("static", 3, None)),
}
TICKET_SPARSITIES = (0.9, 0.95, 0.98)
TICKETS = {
    "gates with SGD": "cs",
    "gates with the Adam of the weights": "cs_adam",
    "magnitude, equal steps": "imp_equal",
}
SMALLEST_TICKETS = {
    "gates with SGD": "cs",
    "magnitude, equal steps": "imp_equal",
    "magnitude, a fifth a level": "imp",
}
TICKET_DIFFERENCES = {
    "gates with SGD - magnitude, equal steps": ("cs", "imp_equal"),
    "gates with Adam - magnitude, equal steps": ("cs_adam", "imp_equal"),
    "gates with SGD - with Adam": ("cs", "cs_adam"),
}


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
            cells.append(accuracy_cell(results["summary"], **fields))
        if any(cells):
            rows.append([name, *cells])
    for name, (better, worse) in DIFFERENCES.items():
        cells = [
            difference_cell(
                results["differences"],
                Case(better[0], sparsity, better[1], optimizer, better[2]),
                Case(worse[0], sparsity, worse[1], optimizer, worse[2]),
            )
            for optimizer, sparsity in COLUMNS.values()
        ]
        if any(cells):
            rows.append([f"*{name}*", *cells])
    return table(["method", *COLUMNS], rows)


def continuous_cifar10():
    """Returns the table of tickets by gates and by magnitude, and of their differences."""
    found = record.read("continuous_cifar10")
    results = found["results"]
    rows = []
    for name, method in TICKETS.items():
        cells = [
            accuracy_cell(results["summary"], method=method, sparsity=sparsity)
            for sparsity in TICKET_SPARSITIES
        ]
        if any(cells):
            epochs = max(row["epochs"] for row in results["rows"] if row["method"] == method)
            rows.append([name, f"{_steps(found, epochs):,}", *cells])
    for name, (better, worse) in TICKET_DIFFERENCES.items():
        cells = [
            difference_cell(results["differences"], Case(better, sparsity), Case(worse, sparsity))
            for sparsity in TICKET_SPARSITIES
        ]
        if any(cells):
            rows.append([f"*{name}*", "", *cells])
    if any(row["method"] == "imp" for row in results["rows"]):
        rows += _held_out(found)
    return table(["tickets", "steps", *(f"{1 - s:.0%} density" for s in TICKET_SPARSITIES)], rows)


def continuous_cifar10_kernels():
    """Returns the table of how many weights of each kernel the smallest tickets keep."""
    rows = record.read("continuous_cifar10")["results"]["rows"]
    smallest = [row for row in rows if row["sparsity"] == TICKET_SPARSITIES[-1]]
    by_method = {
        name: [row["kernels"] for row in smallest if row["method"] == method]
        for name, method in SMALLEST_TICKETS.items()
    }
    first = next(iter(by_method.values()))[0]
    return table(
        ["kernel", "weights", *by_method],
        [
            [
                path.split("/")[-2],
                f"{size:,}",
                *(
                    f"{statistics.mean(kernels[path][1] for kernels in found):,.0f}"
                    for found in by_method.values()
                ),
            ]
            for path, (size, _) in first.items()
        ],
    )


def _held_out(found):
    """Returns the rows of gates and of all levels of a longer search, on held-out examples.

    A level is evaluated on these only.
    """
    rows = found["results"]["rows"]
    by_gates, by_level, steps = [], [], []
    gates = _steps(found, next(row["epochs"] for row in rows if row["method"] == "cs"))
    for sparsity in TICKET_SPARSITIES:
        by_gates.append(
            [
                row["validation_accuracy"]
                for row in rows
                if (row["method"], row["sparsity"]) == ("cs", sparsity)
            ]
        )
        nearest = [
            min(enumerate(row["levels"]), key=lambda level: abs(level[1]["density"] - 1 + sparsity))
            for row in rows
            if row["method"] == "imp"
        ]
        by_level.append([level["validation_accuracy"] for _, level in nearest])
        steps.append(_steps(found, (nearest[0][0] + 1) * continuous_cifar10_runs.EPOCHS))
    return [
        ["gates with SGD, held-out examples", f"{gates:,}", *map(_mean, by_gates)],
        [
            "magnitude, a fifth a level, held-out examples",
            f"{steps[0]:,} to {steps[-1]:,}",
            *map(_mean, by_level),
        ],
    ]


def _steps(found, epochs):
    """Returns the steps of so many epochs of the comparison of tickets."""
    return epochs * found["settings"]["steps"] // continuous_cifar10_runs.EPOCHS


def _mean(accuracies):
    """Returns mean and deviation of accuracies, and their number, or nothing without any."""
    if not accuracies:
        return ""
    std = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    return mean_cell(statistics.mean(accuracies), std, len(accuracies))
