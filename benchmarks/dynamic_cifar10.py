"""Dynamic sparse training of a small convolutional network on CIFAR-10.

The comparison of "Rigging the Lottery" (arXiv:1911.11134, section 4.3) at a size for one CPU core:
Conv-4 at a quarter of its width (152,368 weights), 90% sparsity, ERK, Adam 1.2e-3, batch 60, 2,000
steps for every method. Three seeds.

    KERAS_BACKEND=tensorflow python benchmarks/dynamic_cifar10.py --data-dir DIR

On a CPU, TensorFlow computes convolutions several times as fast as JAX.

What it should show: in such a short training, of a network without normalization, moving
connections does not help. SET is about as accurate as a static mask, RigL and SNFS less, gradual
pruning comes close to the dense network.

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
    )


if __name__ == "__main__":
    comparison.run_benchmark("dynamic_cifar10", "cifar10", CASES, make_settings, steps=2000)
