"""A network without normalization: dynamic sparse training fails unless weights are rescaled.

The comparison of `dynamic_cifar10.py` in a network and with inputs without normalization: Conv-4 at
a quarter of its width (152,368 weights), 90% sparsity, ERK, Adam 1.2e-3, batch 60, 2,000 steps for
every method. Initial weights are rescaled to the density, as `tf-lottery train` does without
normalization, and left as they are (`rescale=False`). Three seeds.

    KERAS_BACKEND=tensorflow python benchmarks/dynamic_cifar10_without_norms.py --data-dir DIR

The claim, stated before the runs: rescaling makes every method that is sparse from the start more
accurate. With weights as they are SET is about as accurate as a static mask, RigL and SNFS less,
and the reason is the setting, not the methods. At the start, the standard deviation of a layer's
outputs falls from 0.15 to 0.04 in the dense network, but from 0.1 to 0.00005 in one with 90% zeros:
every layer loses the share of its inputs that is pruned. Then gradients are tiny and uneven, RigL
grows its connections into a few units, and every update replaces active weights by zeros.
`dynamic_cifar10.py` has batch normalization.

A killed run is resumed when it is started again. About half an hour on one CPU core.
"""

import comparison
from comparison import Case

from tf_lottery.experiments.training import TrainSettings

CASES = [
    Case("dense"),
    *[Case(method, 0.9) for method in ("static", "set", "snfs", "rigl", "gmp")],
    *[Case(method, 0.9, rescale=False) for method in ("static", "set", "snfs", "rigl")],
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
        rescale=case.rescale,
    )


if __name__ == "__main__":
    comparison.run_benchmark(
        "dynamic_cifar10_without_norms", "cifar10", CASES, make_settings, steps=2000
    )
