"""Continuous Sparsification in a setting that does not suit it, kept as a warning.

The comparison of `continuous_cifar10.py` in a network without normalization, in rounds of 480
steps instead of the paper's 29,920, with one optimizer for weights and gates, and with rewind
points that differ: half of the first round for gates, the initial weights for magnitude pruning.
Conv-6 at a quarter of its width, Adam 1.2e-3, batch 60, rounds and levels of 480 steps, which is
0.6 of an epoch. Gates take three rounds and a retraining for any density; magnitude pruning takes
a level for every 20% of the remaining weights. The gates start at 0.05, since at 0 half of them
close by themselves. Pruning mode is compared with gradual magnitude pruning of the same number of
steps. Three seeds.

    KERAS_BACKEND=tensorflow python benchmarks/continuous_cifar10_without_norms.py --data-dir DIR

On a CPU, TensorFlow computes convolutions several times as fast as JAX.

What it should show: gates need a few epochs in all, a search by magnitude many more; at which
densities the tickets of gates are as accurate, and where they are worse.

A killed run is resumed when it is started again. About an hour on one CPU core.
"""

import functools

import comparison
import continuous_mnist
from comparison import Case

CASES = [
    *[Case("cs", sparsity) for sparsity in (0.8, 0.9, 0.95, 0.98)],
    Case("cs_prune", 0.9),
    Case("gmp", 0.9),
    Case("dense"),
    Case("imp", 0.98),
]
make_settings = functools.partial(
    continuous_mnist.make_settings, model="conv-6-small", initial_value=0.05
)

if __name__ == "__main__":
    # A round is four epochs of this many steps.
    comparison.run_benchmark(
        "continuous_cifar10_without_norms", "cifar10", CASES, make_settings, steps=120
    )
