"""The tables of pruning without training, from the recorded results."""

import record
from markdown import table

SPARSITIES = (0.8, 0.9, 0.95, 0.97)
LAYERS = {"equal": "equal layers", "erk": "ERK", "global": "global layers"}
SPREADS = {
    "equal": "equal layers",
    "erk": "ERK",
    "global": "global layers",
    "allocated": "allocated, as many weights",
    "allocated_bytes": "allocated, as many bytes",
}
CNN_SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
NETWORKS = {
    "one_shot_mnist": ("LeNet-300-100, MNIST", "pruned", (0.8, 0.9, 0.95, 0.97)),
    "one_shot_cnn": ("Conv-4 with norms, CIFAR-10", "statistics", (0.8, 0.9, 0.95)),
}


def one_shot():
    """Returns the table of scores and shares of zeros in the layers, before and after repair."""
    means = record.read("one_shot_mnist")["results"]["means"]
    rows = []
    for scores in ("magnitude", "obs", "wanda"):
        for layers, text in LAYERS.items():
            names = [f"{scores} {layers} {sparsity}" for sparsity in SPARSITIES]
            if f"{names[0]} pruned" in means:
                cells = [_accuracies(means, name, "pruned", "repaired") for name in names]
                rows.append([f"`{scores}`, {text}", *cells])
    dense = f"dense {means['dense pruned']:.2f}"
    return table([dense, *(f"{s:.0%} zeros: pruned, repaired" for s in SPARSITIES)], rows)


def one_shot_cnn():
    """Returns the table of scores before and after repair, and of gradual fine-tuning."""
    means = record.read("one_shot_cnn")["results"]["means"]
    rows = []
    for scores in ("magnitude", "obs", "wanda"):
        names = [f"{scores} global {sparsity}" for sparsity in CNN_SPARSITIES]
        rows.append(
            [f"`{scores}`", *(_accuracies(means, n, "statistics", "repaired") for n in names)]
        )
    gradual = [f"gradual global {sparsity} pruned" for sparsity in CNN_SPARSITIES]
    rows.append(["gradual fine-tuning with labels", *(f"{means[name]:.2f}" for name in gradual)])
    dense = f"dense {means['dense pruned']:.2f}"
    return table([dense, *(f"{s:.0%} zeros: statistics, repaired" for s in CNN_SPARSITIES)], rows)


def one_shot_layers():
    """Returns the table of ways to spread the zeros over the layers, by magnitude."""
    rows = []
    for name, (text, pruned, sparsities) in NETWORKS.items():
        means = record.read(name)["results"]["means"]
        for layers, spread in SPREADS.items():
            cells = {s: f"magnitude {layers} {s}" for s in sparsities}
            found = [
                _accuracies(means, cells[s], pruned, "repaired") if s in cells else ""
                for s in SPARSITIES
            ]
            rows.append([f"{text}: {spread}", *found])
    return table(["network and layers", *(f"{s:.0%} zeros" for s in SPARSITIES)], rows)


def repair_cost():
    """Returns the sentence about what a repair takes."""
    found = record.read("repair_cost")
    lenet, resnet = (found["results"][name] for name in ("lenet_300_100", "resnet_50"))
    return (
        f"On {found['hardware']['cores']} cores a repair takes {lenet['seconds']:.1f} seconds for "
        f"LeNet-300-100 with {lenet['inputs']:,} inputs; for ResNet-50 at 224 pixels with "
        f"{resnet['inputs']} images {resnet['seconds'] / 60:.1f} minutes and at most "
        f"{resnet['gigabytes']:.1f} GB, of which the process had {resnet['gigabytes_before']:.1f} "
        "GB before."
    )


def _accuracies(means, name, *steps):
    return ", ".join(f"{means[f'{name} {step}']:.2f}" for step in steps)
