"""A setting in which dynamic sparse training fails, kept as a warning: no normalization.

The comparison of `dynamic_cifar10.py` in a network and with inputs without normalization: Conv-4 at
a quarter of its width (152,368 weights), 90% sparsity, ERK, Adam 1.2e-3, batch 60, 2,000 steps for
every method. Three seeds.

    KERAS_BACKEND=tensorflow python benchmarks/dynamic_cifar10_without_norms.py --data-dir DIR

What it shows: SET is about as accurate as a static mask, RigL and SNFS less. The reason is the
setting, not the methods. At the start, the standard deviation of a layer's outputs falls from 0.15
to 0.04 in the dense network, but from 0.1 to 0.00005 in one with 90% zeros: every layer loses the
share of its inputs that is pruned. Then gradients are tiny and uneven, RigL grows its connections
into a few units, and every update replaces active weights by zeros. `dynamic_cifar10.py` has batch
normalization; `tfl.retrain.rescale_to_density` helps a network that must not have it.

A killed run is resumed when it is started again. About a quarter of an hour on one CPU core.
"""

import comparison
from comparison import Case

from tf_lottery.experiments.training import TrainSettings

CASES = [
    Case("dense"),
    *[Case(method, 0.9) for method in ("static", "set", "snfs", "rigl", "gmp")],
]


def make_settings(case, steps):
    """Returns the settings of a case: one epoch, which is evaluated at its end."""
    return TrainSettings(
        case.method,
        "conv-4-small",
        case.sparsity,
        epochs=1,
        steps_per_epoch=steps,
        batch_size=60,
        learning_rate=1.2e-3,
        **comparison.not_rescaled(case.method),
    )


if __name__ == "__main__":
    comparison.run_benchmark(
        "dynamic_cifar10_without_norms", "cifar10", CASES, make_settings, steps=2000
    )
