"""The tables of retraining and stability, from the recorded results."""

import record
from markdown import percent, table

CASES = {
    "vanilla": "the ticket, no tweaks",
    "soft_activations": "soft activations (swish)",
    "ghost_skips": "ghost skips",
    "rescaled_initialization": "rescaled initialization",
    "label_smoothing": "label smoothing",
    "distillation": "distillation",
    "soft_and_smooth": "soft activations, label smoothing",
    "without_ghosts": "the paper's without ghost skips",
    "paper": "the paper's together",
    "all": "with the teacher too",
    "random_reinitialization": "*new weights*",
    "sign_kept_reinitialization": "*new weights, signs kept*",
    "shuffled_masks": "*shuffled masks*",
}
_SEEDS = 3


def retraining_cifar10_short():
    """Returns the table of tickets of a ResNet that were retrained for few steps."""
    return _retraining("retraining_cifar10_short")


def retraining_mnist():
    """Returns the table of retrained tickets of LeNet."""
    return _retraining("retraining_mnist")


def stability():
    """Returns the table of barriers."""
    found = record.read("stability_mnist")["results"]["summary"]
    rows = [
        [
            name,
            percent(case["error"]),
            f"{percent(case['barrier_error']['mean'])} "
            f"({percent(case['barrier_error']['min'])} to {percent(case['barrier_error']['max'])})",
        ]
        for name, case in found.items()
    ]
    return table(["two networks from the same weights, or independent", "error", "barrier"], rows)


def _retraining(benchmark):
    found = record.read(benchmark)["results"]["summary"]
    by_case = {(case["case"], case["level"]): case for case in found}
    sparsities = {case["level"]: 1 - case["density"] for case in found}
    rows = [
        [name, *(_cell(by_case.get((case, level))) for level in sorted(sparsities))]
        for case, name in CASES.items()
        if any((case, level) in by_case for level in sparsities)
    ]
    zeros = [f"{sparsities[level]:.1%} zeros" for level in sorted(sparsities)]
    return table(["retrained", *zeros], rows)


def _cell(case):
    """Returns mean and deviation of the accuracy, and the number of seeds if it is small."""
    if case is None:
        return ""
    deviation = "" if case["std"] is None else f" ± {percent(case['std'])}"
    seeds = "" if case["seeds"] >= _SEEDS else f" ({case['seeds']})"
    return f"{percent(case['mean'])}{deviation}{seeds}"
