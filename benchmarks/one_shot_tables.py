"""The tables of pruning without training, from the recorded results."""

import record
from markdown import table

SPARSITIES = (0.8, 0.9, 0.95, 0.97)
CNN_SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
LAYERS = {"equal": "equal layers", "erk": "ERK", "global": "global layers"}
SPREADS = {
    "equal": "equal layers",
    "erk": "ERK",
    "global": "global layers",
    "allocated": "allocated, as many weights",
    "allocated_bytes": "allocated, as many bytes",
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


def one_shot_layers():
    """Returns the table of ways to spread the zeros over the layers, by magnitude."""
    means = record.read("one_shot_mnist")["results"]["means"]
    rows = []
    for layers, text in SPREADS.items():
        names = [f"magnitude {layers} {sparsity}" for sparsity in SPARSITIES]
        if f"{names[0]} pruned" in means:
            rows.append([text, *(_accuracies(means, n, "pruned", "repaired") for n in names)])
    return table(["layers", *(f"{s:.0%} zeros: pruned, repaired" for s in SPARSITIES)], rows)


def one_shot_cnn():
    """Returns the table of scores on the CNN, and of training on while pruning gradually."""
    means = record.read("one_shot_cnn")["results"]["means"]
    rows = []
    for scores in ("magnitude", "obs", "wanda"):
        names = [f"{scores} global {sparsity}" for sparsity in CNN_SPARSITIES]
        cells = [_accuracies(means, name, "pruned", "statistics", "repaired") for name in names]
        rows.append([f"`{scores}`", *cells])
    gradual = [f"{means[f'gradual global {sparsity} pruned']:.2f}" for sparsity in CNN_SPARSITIES]
    rows.append(["gradual, 1,000 steps with labels", *gradual])
    dense = f"dense {means['dense pruned']:.2f}, {means['dense statistics']:.2f}"
    return table([dense, *(f"{s:.0%}" for s in CNN_SPARSITIES)], rows)


def one_shot_cnn_layers():
    """Returns the table of ways to spread the zeros over the layers of the CNN, by magnitude."""
    means, sparsities = record.read("one_shot_cnn")["results"]["means"], CNN_SPARSITIES[2:]
    rows = []
    for layers, text in SPREADS.items():
        names = [f"magnitude {layers} {sparsity}" for sparsity in sparsities]
        rows.append([text, *(_accuracies(means, n, "statistics", "repaired") for n in names)])
    return table(["layers", *(f"{s:.0%}: statistics, repaired" for s in sparsities)], rows)


def repair_cost():
    """Returns the sentence about what a repair takes."""
    found = record.read("repair_cost")
    sentences = [
        f"On {found['hardware']['cores']} cores a repair of LeNet-300-100 with "
        f"{found['results']['lenet_300_100']['inputs']:,} inputs takes "
        f"{found['results']['lenet_300_100']['seconds']:.1f} seconds."
    ]
    if resnet := found["results"].get("resnet_50"):
        sentences.append(
            f"One of ResNet-50 at 224 pixels with {resnet['inputs']} images takes "
            f"{resnet['cpu_seconds'] / 60:.1f} minutes of one core, and the process at most "
            f"{resnet['gigabytes']:.1f} GB, {resnet['gigabytes_before']:.1f} of them before it."
        )
    return " ".join(sentences)


def _accuracies(means, name, *steps):
    return ", ".join(f"{means[f'{name} {step}']:.2f}" for step in steps)
