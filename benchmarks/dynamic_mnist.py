"""Dynamic sparse training of LeNet-300-100 on MNIST.

The comparison of "Rigging the Lottery" (arXiv:1911.11134, section 4) on the smallest of its data
sets: Adam 1.2e-3, batch 60, 10,000 steps, ERK, connections moved every 100 steps until 75% of
training; and RigL trained two and four times as long. Initial weights are rescaled to the density,
as `tf-lottery train` does without normalization, and left as they are (`rescale=False`), as in the
paper. Three seeds.

    KERAS_BACKEND=jax python benchmarks/dynamic_mnist.py --data-dir DIR

What it should show: at 98% sparsity RigL is more accurate than SET and a static mask, SNFS about
as accurate as RigL; trained longer, RigL comes closer to the dense network; at 90% the
differences are small.

A killed run is resumed when it is started again. About 20 minutes on one CPU core.
"""

import comparison
from comparison import Case

from tf_lottery.experiments.training import TrainSettings

CASES = [
    Case("dense"),
    *[Case(method, 0.98) for method in ("static", "set", "snfs", "rigl", "gmp")],
    *[Case(method, 0.9) for method in ("static", "rigl")],
    *[Case("rigl", 0.98, length) for length in (2, 4)],
    *[Case(method, 0.98, rescale=False) for method in ("static", "set", "snfs", "rigl")],
]


def make_settings(case, steps):
    """Returns the settings of a case: one epoch, which is evaluated at its end."""
    return TrainSettings(
        case.method,
        "lenet-300-100",
        case.sparsity,
        epochs=1,
        steps_per_epoch=steps,
        batch_size=60,
        learning_rate=1.2e-3,
        rescale=case.rescale,
    )


LABELS = {
    "dense": "dense",
    "static": "static",
    "set": "SET",
    "snfs": "SNFS",
    "rigl": "RigL",
    "gmp": "gradual pruning",
}


def plot_lengths(summary, path):
    """Draws the accuracy of RigL over the length of training, together with other methods.

    Args:
        summary: List of dicts as `comparison.summarize` returns them.
        path: File of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    rescaled = [case for case in summary if case["rescale"] is None]
    sparsest = [case for case in rescaled if case["sparsity"] in (None, 0.98)]
    for method in dict.fromkeys(case["method"] for case in sparsest):
        cases = [case for case in sparsest if case["method"] == method]
        accuracies = [100 * case["test_accuracy"]["mean"] for case in cases]
        errors = [100 * (case["test_accuracy"]["std"] or 0) for case in cases]
        if method == "dense":
            axis.axhline(accuracies[0], color="black", linestyle="--", label=LABELS[method])
        else:
            lengths = [case["length"] for case in cases]
            axis.errorbar(lengths, accuracies, errors, fmt="o-", capsize=3, label=LABELS[method])
    axis.set_xscale("log", base=2)
    axis.set_xticks([1, 2, 4], ["1x", "2x", "4x"])
    axis.set_xlabel("Length of training")
    axis.set_ylabel("Test accuracy (%)")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.suptitle("LeNet-300-100 on MNIST at 98% sparsity")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    comparison.run_benchmark(
        "dynamic_mnist", "mnist", CASES, make_settings, steps=10_000, on_results=plot_lengths
    )
