"""The tables of tickets, and of sparse trainings on several data sets, from the records."""

import statistics

import continuous_mnist
import record
from comparison_cells import find_case
from markdown import percent, spread, table

LEVELS = ("0", "3", "5", "7", "9", "11", "13", "15")
METHODS = {
    ("dense", 1, None): "dense",
    ("static", 1, None): "static mask",
    ("set", 1, None): "SET",
    ("snfs", 1, None): "SNFS",
    ("rigl", 1, None): "RigL",
    ("rigl", 2, None): "RigL, 2x steps",
    ("rigl", 4, None): "RigL, 4x steps",
    ("static", 1, False): "static mask, not rescaled",
    ("set", 1, False): "SET, not rescaled",
    ("snfs", 1, False): "SNFS, not rescaled",
    ("rigl", 1, False): "RigL, not rescaled",
    ("gmp", 1, None): "gradual pruning",
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
    """Returns the table of methods that train a sparse network without normalization."""
    columns = {
        "MNIST, LeNet-300-100, 98%": ("dynamic_mnist", 0.98),
        "MNIST, LeNet-300-100, 90%": ("dynamic_mnist", 0.9),
        "CIFAR-10, Conv-4 small, 90%": ("dynamic_cifar10_without_norms", 0.9),
    }
    rows = []
    for (method, length, rescale), name in METHODS.items():
        cells = []
        for benchmark, sparsity in columns.values():
            summary = record.read(benchmark)["results"]["summary"]
            asked = None if method == "dense" else sparsity
            fields = {"method": method, "sparsity": asked, "length": length, "rescale": rescale}
            found = find_case(summary, **fields)
            cells.append("" if found is None else spread(**found["test_accuracy"]))
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
