"""The tables of tickets, and of sparse trainings on several data sets, from the records."""

import statistics

import continuous_mnist
import record
from comparison_cells import find_case
from markdown import percent, spread, table

LEVELS = ("0", "3", "5", "7", "9", "11", "13", "15")
METHODS = {
    ("dense", 1): "dense",
    ("static", 1): "static mask",
    ("set", 1): "SET",
    ("snfs", 1): "SNFS",
    ("rigl", 1): "RigL",
    ("rigl", 2): "RigL, 2x steps",
    ("rigl", 4): "RigL, 4x steps",
    ("gmp", 1): "gradual pruning",
}
CONTINUOUS = (
    ("MNIST", "continuous_mnist"),
    ("CIFAR-10 without norms", "continuous_cifar10_without_norms"),
)


def lottery_mnist():
    """Returns the table of tickets and reinitialized networks."""
    found = record.read("lottery_mnist")["results"]["summary"]
    rows = [
        [
            f"{found['density'][level]:.1%}",
            f"{found['ticket_iteration'][level]:,.0f}",
            f"{found['reinitialized_iteration'][level]:,.0f}" if level != "0" else "",
            f"{found['ticket_test_accuracy'][level]:.2%}",
            f"{found['reinitialized_test_accuracy'][level]:.2%}" if level != "0" else "",
        ]
        for level in LEVELS
    ]
    return table(
        [
            "density",
            "lowest loss at step: ticket",
            "new weights",
            "accuracy: ticket",
            "new weights",
        ],
        rows,
    )


def dynamic():
    """Returns the table of methods that train a sparse network, on three data sets."""
    columns = {
        "MNIST, LeNet-300-100, 98%": ("dynamic_mnist", 0.98, "test_accuracy", percent),
        "MNIST, LeNet-300-100, 90%": ("dynamic_mnist", 0.9, "test_accuracy", percent),
        "CIFAR-10, Conv-4 small without norms, 90%": (
            "dynamic_cifar10_without_norms",
            0.9,
            "test_accuracy",
            percent,
        ),
        "Shakespeare, GRU, 75%: bits a character": (
            "dynamic_shakespeare",
            0.75,
            "test_bits_per_character",
            "{:.3f}".format,
        ),
    }
    rows = []
    for (method, length), name in METHODS.items():
        cells = []
        for benchmark, sparsity, key, form in columns.values():
            summary = record.read(benchmark)["results"]["summary"]
            asked = None if method == "dense" else sparsity
            found = find_case(summary, method=method, sparsity=asked, length=length)
            cells.append("" if found is None else spread(**found[key], form=form))
        rows.append([name, *cells])
    return table(["method", *columns], rows)


def continuous():
    """Returns the table of tickets by gates and by magnitude."""
    rows = []
    for data, benchmark in CONTINUOUS:
        found = record.read(benchmark)["results"]["rows"]
        for sparsity in (0.8, 0.9, 0.95, 0.98):
            gates = [row for row in found if (row["method"], row["sparsity"]) == ("cs", sparsity)]
            levels = [
                min(row["levels"], key=lambda level, s=sparsity: abs(level["density"] - 1 + s))
                for row in found
                if row["method"] == "imp"
            ]
            index = next(row["levels"].index(levels[0]) for row in found if row["method"] == "imp")
            epochs = continuous_mnist.EPOCHS * (index + 1)
            rows.append(
                [f"{data}, {1 - sparsity:.0%}", *_reached(gates), str(gates[0]["epochs"])]
                + [*_reached(levels), str(epochs)]
            )
    head = ["data, asked density", "gates: density", "accuracy", "epochs"]
    return table([*head, "magnitude: density", "accuracy", "epochs"], rows)


def gate_pruning():
    """Returns the sentence about the pruning mode."""
    sentences = []
    for data, benchmark in CONTINUOUS:
        found = record.read(benchmark)["results"]["summary"]
        means = {(c["method"], c["sparsity"]): c["test_accuracy"]["mean"] for c in found}
        pairs = [
            f"{percent(means['cs_prune', sparsity])} and {percent(means['gmp', sparsity])} "
            f"at {1 - sparsity:.0%} density"
            for method, sparsity in means
            if method == "cs_prune"
        ]
        sentences.append(f"on {data} {', '.join(pairs)}")
    return (
        "Pruning mode, which keeps the weights, against gradual magnitude pruning of as many "
        f"epochs, percent of the test examples: {'; '.join(sentences)}."
    )


def _reached(rows):
    """Returns the mean density, and mean and deviation of the accuracy on held-out examples."""
    accuracies = [row["validation_accuracy"] for row in rows]
    std = statistics.stdev(accuracies) if len(rows) > 1 else None
    density = statistics.mean(row["density"] for row in rows)
    return f"{density:.1%}", spread(statistics.mean(accuracies), std)
