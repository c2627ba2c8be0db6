"""Writes the recorded results into the tables of the documentation.

    python benchmarks/tables.py

Every table stands between the comments `<!-- NAME -->` and `<!-- end -->`.
"""

import pathlib
import re
import statistics

import continuous_mnist
import record
from channel_tables import (
    channel_groups,
    channel_latency,
    channel_peers,
    channel_steps,
    channels_cifar10,
)
from cifar10_tables import continuous_cifar10, continuous_cifar10_kernels, dynamic_cifar10
from compare_tables import compare_digits
from compress_tables import compressed
from export_tables import (
    export_grid,
    export_latency,
    export_micro,
    export_peers,
    export_public_files,
    export_sizes,
    export_ticket,
    quantization_aware,
    xnnpack_arm,
)
from install_tables import install_all, install_cost
from markdown import percent, table
from one_shot_tables import (
    one_shot,
    one_shot_cnn,
    one_shot_cnn_layers,
    one_shot_layers,
    repair_cost,
)
from peer_tables import peer_gates_mnist, peer_gradual
from recipe_tables import (
    recipe_cifar10,
    recipe_hub,
    recipe_mnist,
    recipe_shakespeare,
    recipe_watch,
)
from reproduction_tables import published_flops, reproductions
from retraining_tables import (
    retraining_cifar10,
    retraining_cifar10_short,
    retraining_mnist,
    stability,
    stability_cifar10,
)

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (
    DOCS / "benchmarks.md",
    DOCS / "reproduction.md",
    DOCS / "quickstart.md",
    ROOT / "README.md",
    *sorted((DOCS / "recipes").glob("*.md")),
)
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
MODELS = {
    "lenet_300_100": "LeNet-300-100, batch 128",
    "resnet_20": "ResNet-20, batch 128",
    "mobilenet": "MobileNet 96 px, batch 16",
}


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


def step_cost():
    """Returns the table of the cost of a masked step."""
    records = {
        "TensorFlow": "step_cost_tensorflow",
        "TensorFlow, `jit_compile`": "step_cost_tensorflow_jit",
        "JAX": "step_cost_jax",
    }
    results = {name: record.read(file)["results"] for name, file in records.items()}
    rows = []
    for key, model in MODELS.items():
        cells = [f"{results[name][key]['tf_lottery']['ratio']:.2f}" for name in records]
        rows.append([model, *cells, f"{results['TensorFlow'][key]['tfmot']['ratio']:.2f}"])
    return table(["masked step / dense step", *records, "TFMOT, TensorFlow"], rows)


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
            wanted = (method, None if method == "dense" else sparsity, length)
            found = [
                case[key]
                for case in record.read(benchmark)["results"]["summary"]
                if (case["method"], case["sparsity"], case["length"]) == wanted
            ]
            cells.append(f"{form(found[0]['mean'])} ± {form(found[0]['std'])}" if found else "")
        rows.append([name, *cells])
    return table(["method", *columns], rows)


def rigl_cost():
    """Returns the sentences about the cost of RigL."""
    results = {
        name: record.read(f"rigl_cost_{backend}")["results"]
        for name, backend in (("TensorFlow", "tensorflow"), ("JAX", "jax"))
    }
    ratios = [
        f"{name} {found[key]['rigl_to_masked']:.2f}"
        for key, name, found in (
            ("lenet_300_100", "LeNet-300-100 on TensorFlow", results["TensorFlow"]),
            ("lenet_300_100", "on JAX", results["JAX"]),
            ("resnet_20", "ResNet-20 on TensorFlow", results["TensorFlow"]),
        )
    ]
    update = results["TensorFlow"]["resnet_50_update"]
    return (
        "A step of RigL with an update every 100 steps takes, in times of a step with fixed masks "
        f"at batch 128: {', '.join(ratios)}. An update of ResNet-50's "
        f"{update['num_weights'] / 1e6:.1f} million weights takes {update['seconds']:.1f} seconds."
    )


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


def gate_cost():
    """Returns the sentence about the cost of gates."""
    results = {
        name: record.read(f"gate_cost_{file}")["results"]
        for name, file in (
            ("TensorFlow", "tensorflow"),
            ("with XLA", "tensorflow_jit"),
            ("JAX", "jax"),
        )
    }
    lenet, resnet = (
        [f"{name} {found[key]['ratio']:.2f}" for name, found in results.items() if key in found]
        for key in ("lenet_300_100", "resnet_20")
    )
    lenets = {name: found["lenet_300_100"] for name, found in results.items()}
    idle = [found["idle_ratio"] for found in lenets.values()]
    # Older records have no ratio of the two in pairs.
    on_top = [
        f"{name} {found.get('gated_to_idle', found['ratio'] / found['idle_ratio']):.2f}"
        for name, found in lenets.items()
    ]
    return (
        f"A step with gates takes, in times of a plain step at batch 128: ResNet-20 "
        f"{', '.join(resnet)}; LeNet-300-100 {', '.join(lenet)}, of which Adam's work on twice the "
        f"weights alone makes {min(idle):.2f} to {max(idle):.2f}. In times of a step with these "
        f"additional weights: {', '.join(on_top)}."
    )


def peer_step_cost():
    """Returns the sentence about the cost of gates in another library."""
    found = record.read("peer_step_cost_tensorflow")["results"]
    here, peer = (
        f"{found[name]['ratio']:.2f} times as long as a plain step ({low:.2f} to {high:.2f})"
        for name in ("tf_lottery", "pquant-ml")
        for low, high in [found[name]["ratio_quartiles"]]
    )
    version = found["pquant-ml"]["versions"]["pquant-ml"]
    return (
        f"On TensorFlow, with LeNet-300-100 at batch 60, a step with gates takes {here}; in "
        f"PQuantML {version}, measured in turns with it, {peer}. In brackets are the quartiles "
        "over pairs of runs."
    )


def _reached(rows):
    """Returns the mean density, and mean and deviation of the accuracy on held-out examples."""
    accuracies = [row["validation_accuracy"] for row in rows]
    deviation = f" ± {percent(statistics.stdev(accuracies))}" if len(rows) > 1 else ""
    density = statistics.mean(row["density"] for row in rows)
    return f"{density:.1%}", f"{percent(statistics.mean(accuracies))}{deviation}"


TABLES = (
    compare_digits,
    lottery_mnist,
    dynamic,
    dynamic_cifar10,
    continuous,
    continuous_cifar10,
    continuous_cifar10_kernels,
    gate_pruning,
    retraining_cifar10,
    retraining_cifar10_short,
    retraining_mnist,
    stability,
    stability_cifar10,
    step_cost,
    rigl_cost,
    gate_cost,
    peer_step_cost,
    peer_gates_mnist,
    peer_gradual,
    channel_peers,
    channel_latency,
    channel_steps,
    channels_cifar10,
    export_ticket,
    export_sizes,
    export_grid,
    export_public_files,
    export_latency,
    export_peers,
    export_micro,
    quantization_aware,
    xnnpack_arm,
    one_shot,
    one_shot_layers,
    one_shot_cnn,
    one_shot_cnn_layers,
    repair_cost,
    channel_groups,
    compressed,
    published_flops,
    reproductions,
    recipe_mnist,
    recipe_cifar10,
    recipe_watch,
    recipe_shakespeare,
    recipe_hub,
    install_all,
    install_cost,
)


def fill(text):
    """Returns the text of a page with all tables filled from the records."""
    for make in TABLES:
        block = re.compile(rf"(<!-- {make.__name__} -->\n).*?(<!-- end -->)", re.DOTALL)
        content = make()
        text = block.sub(lambda match, c=content: f"{match[1]}{c}\n{match[2]}", text)
    return text


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(fill(page.read_text()))
