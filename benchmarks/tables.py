"""Writes the recorded results into the tables of the documentation.

    python benchmarks/tables.py

Every table stands between the comments `<!-- NAME -->` and `<!-- end -->`.
"""

import pathlib
import re

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
from cost_tables import gate_cost, peer_step_cost, rigl_cost, step_cost
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
from training_tables import continuous, dynamic, gate_pruning, lottery_mnist

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (
    DOCS / "benchmarks.md",
    DOCS / "reproduction.md",
    DOCS / "quickstart.md",
    ROOT / "README.md",
    *sorted((DOCS / "recipes").glob("*.md")),
)
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
