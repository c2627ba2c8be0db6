"""The tables of retraining and stability, from the recorded results."""

import record
from markdown import mean_cell, percent, signed, spread, table

CASES = {
    "vanilla": "the ticket, no tweaks",
    "soft_activations": "soft activations (swish)",
    "ghost_skips": "ghost skips",
    "ghosts_kept": "ghost skips that stay",
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


def retraining_cifar10():
    """Returns the table of tickets that were retrained for long, with their gains."""
    results = record.read("retraining_cifar10")["results"]
    by_case = {(case["case"], case["level"]): case for case in results["summary"]}
    sparsities = {case["level"]: 1 - case["density"] for case in results["summary"]}
    levels = sorted(sparsities)
    highest = [row for row in results["rows"] if row["level"] == levels[-1]]
    # Ghost skips that stay are weights, too.
    parameters = {row["case"]: row["parameters"] for row in highest}
    rows = []
    for case, name in CASES.items():
        found = [by_case.get((case, level)) for level in levels]
        if any(found):
            cells = [text for one in found for text in (_mean(one), _gain(one))]
            rows.append([name, *cells, f"{parameters[case]:,}" if case in parameters else ""])
    head = [text for level in levels for text in (f"{sparsities[level]:.1%} zeros", "gain")]
    last = f"weights left at {sparsities[levels[-1]]:.1%} zeros"
    return table(["retrained", *head, last], rows)


def stability_cifar10():
    """Returns the table of barriers against the step to which networks are rewound."""
    found = record.read("stability_cifar10")["results"]["summary"]
    rows = [
        [
            "dense" if case["kind"] == "dense" else f"ticket, {case['density']:.0%}",
            str(case["step"]),
            f"{percent(case['error'])} ({case['seeds']})",
            _barrier(case["barrier_error"]),
        ]
        for kind in ("dense", "ticket")
        for case in found
        if case["kind"] == kind
    ]
    return table(["network", "from step", "error", "barrier"], rows)


def stability():
    """Returns the table of barriers."""
    found = record.read("stability_mnist")["results"]["summary"]
    rows = [
        [
            name,
            percent(case["error"]),
            _barrier(case["barrier_error"]),
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
    seeds = "" if case["seeds"] >= _SEEDS else f" ({case['seeds']})"
    return f"{spread(case['mean'], case['std'])}{seeds}"


def _mean(case):
    """Returns mean and deviation of the accuracy, and the number of seeds."""
    return "" if case is None else mean_cell(case["mean"], case["std"], case["seeds"])


def _gain(case):
    """Returns the mean gain over plain retraining with the same seed, with its standard error."""
    if case is None or case["case"] == "vanilla" or case["gain"] is None:
        return ""
    return signed(case["gain"], case["gain_error"], case["seeds"])


def _barrier(found):
    """Returns mean and range of a barrier."""
    lowest, highest = percent(found["min"]), percent(found["max"])
    return f"{percent(found['mean'])} ({lowest} to {highest})"
