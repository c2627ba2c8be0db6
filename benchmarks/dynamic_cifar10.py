"""Dynamic sparse training of a small network with normalization on CIFAR-10 at 16 pixels.

The comparison of "Rigging the Lottery" (arXiv:1911.11134, section 4.3) at a size for one CPU core:
Conv-4 at a quarter of its width with batch normalization, images reduced to 16x16 and normalized by
their mean and deviation, random masks, ERK, 2,000 steps for every method, connections moved every
100 steps until 75% of them. Adam 1.2e-3 with batch 60; or SGD 0.1 with Nesterov momentum, a cosine,
batch 128 and weight decay of 5e-3, which is an L2 penalty of 5e-4.

    KERAS_BACKEND=tensorflow python benchmarks/dynamic_cifar10.py --data-dir DIR

The claims, stated before the runs, for the mean of differences with the same seed:

1. RigL is better than a static mask, and SET too, at 90% and at 98% zeros, with Adam and with SGD,
   by more than two standard errors (seeds 0 to 4).
2. RigL is at least as good as SET at 98% with Adam. With SGD they may be level.
3. Gradual pruning, which trains a dense network at first, is at least as good as RigL, with a
   global ranking and with ERK, which RigL has.
4. Three times the steps bring RigL at 98% closer to the dense network, and a static mask less.

The seeds were chosen before, and none is left out. A killed run is resumed when it is started
again, and several processes share the work; see `comparison.py`. A training takes three minutes of
one core with Adam and six with SGD, all of them about 15 hours.
"""

import comparison
from comparison import Case

from tf_lottery.experiments.training import TrainSettings

SEEDS, FEWER_SEEDS = range(5), range(3)
CLAIMED = ("static", "set", "rigl")
OTHERS = ("snfs", "snip", "grasp", "synflow")
STEPS = 2000


def make_cells():
    """Returns pairs of a case and a seed, what a reader doubts first coming first."""
    cells = [
        (Case(method, sparsity, optimizer=optimizer), seed)
        for optimizer in ("adam", "sgd")
        for sparsity in (0.98, 0.9)
        for seed in SEEDS
        for method in CLAIMED
    ]
    rest = [Case("dense", optimizer=optimizer) for optimizer in ("adam", "sgd")]
    rest += [
        Case("gmp", sparsity, optimizer=optimizer, distribution=distribution)
        for optimizer in ("adam", "sgd")
        for sparsity in (0.98, 0.9)
        for distribution in (None, "erk")
    ]
    rest += [
        Case("rigl", 0.98, 3, "sgd"),
        Case("static", 0.98, 3, "sgd"),
        Case("dense", None, 3, "sgd"),
    ]
    rest += [
        Case(method, sparsity, optimizer="sgd") for sparsity in (0.98, 0.9) for method in OTHERS
    ]
    return cells + [(case, seed) for case in rest for seed in FEWER_SEEDS]


def make_settings(case, steps):
    """Returns the settings of a case: one epoch, which is evaluated at its end."""
    by_optimizer = {
        "adam": {"optimizer": "adam", "learning_rate": 1.2e-3, "batch_size": 60},
        "sgd": {
            "optimizer": "sgd",
            "learning_rate": 0.1,
            "schedule": "cosine",
            "weight_decay": 5e-3,
            "batch_size": 128,
        },
    }
    return TrainSettings(
        case.method,
        "conv-4-norms-small",
        case.sparsity,
        epochs=1,
        steps_per_epoch=steps,
        distribution=case.distribution,
        **by_optimizer[case.optimizer],
    )


def prepare(data):
    """Returns CIFAR-10 at 16 pixels, normalized."""
    return data.resized(16).normalized()


if __name__ == "__main__":
    comparison.run_benchmark(
        "dynamic_cifar10", "cifar10", make_cells(), make_settings, STEPS, prepare=prepare
    )
