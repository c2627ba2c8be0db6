"""Continuous Sparsification against magnitude pruning at equal steps, on CIFAR-10 at 16 pixels.

The comparison of "Winning the Lottery with Continuous Sparsification" (arXiv:1912.04427) at a size
for one CPU core: Conv-4 at a quarter of its width with batch normalization, images reduced to 16x16
and normalized, Adam 1.2e-3 in steps (a tenth after a half, a hundredth after three quarters of a
round or level), batch 60. Gates take three rounds of 2,000 steps and a retraining; they start at
0.05, and have SGD 0.1 with Nesterov momentum of their own and the schedule of the weights, as in
the official code. Iterative magnitude pruning with a global ranking takes four levels of 2,000
steps, which prune equal shares. Both methods rewind to step 100: gates once, magnitude pruning in
every level.

    KERAS_BACKEND=tensorflow python benchmarks/continuous_cifar10.py --data-dir DIR

The claims, stated before the runs, for the mean of differences with the same seed:

1. At 10%, 5% and 2% density and equal total steps, 8,000, the tickets of gates are at least as
   accurate as those of magnitude pruning.
2. So they are with the gates trained by the Adam of the weights, but less: that is what a model is
   compiled with unless its `SoftGate` has an optimizer.

Beside that, magnitude pruning with as many levels as the paper takes, a fifth of the weights each:
24,000 to 38,000 steps. The seeds (0 to 4, that search 0 to 2) were chosen before, and none is left
out. A killed run is resumed when it is started again, and several processes share the work; see
`comparison.py`. About 8 hours on one CPU core.
"""

import dataclasses

import comparison
import dynamic_cifar10
from comparison import Case

from tf_lottery.experiments.training import TrainSettings

ROUNDS, EPOCHS, REWIND_TO_STEP = 3, 20, 100
SPARSITIES = (0.9, 0.95, 0.98)
SEEDS, FEWER_SEEDS = range(5), range(3)


def make_cells():
    """Returns pairs of a case and a seed, what a reader doubts first coming first."""
    claimed = [
        (Case(method, sparsity), seed)
        for sparsity in SPARSITIES
        for seed in SEEDS
        for method in ("cs", "imp_equal")
    ]
    # One search passes all densities.
    longer = [
        (Case(method, sparsity), seed)
        for seed in FEWER_SEEDS
        for method, sparsity in (("imp", 0.98), ("dense", None))
    ]
    adam = [(Case("cs_adam", s), seed) for s in SPARSITIES for seed in FEWER_SEEDS]
    return [*claimed, *longer, *adam]


def make_settings(case, steps):
    """Returns the settings of a case.

    Args:
        case: `Case`; `"cs_adam"` has one optimizer for weights and gates, `"imp_equal"` as many
            levels as gates have rounds, with the retraining.
        steps: Integer, of a round or level.
    """
    common = {
        "model": "conv-4-norms-small",
        "epochs": EPOCHS,
        "steps_per_epoch": steps // EPOCHS,
        "batch_size": 60,
        "learning_rate": 1.2e-3,
        "schedule": "step",
    }
    if case.method.startswith("cs"):
        return TrainSettings(
            "cs",
            rounds=ROUNDS,
            initial_value=0.05,
            target_density=round(1 - case.sparsity, 4),
            exact_density=True,
            gate_learning_rate=None if case.method == "cs_adam" else 0.1,
            rewind_to_step=REWIND_TO_STEP,
            **common,
        )
    if case.method == "dense":
        return TrainSettings("dense", **common)
    settings = TrainSettings("imp", sparsity=case.sparsity, rewind_to_step=REWIND_TO_STEP, **common)
    if case.method == "imp_equal":
        return dataclasses.replace(settings, levels=ROUNDS)
    return settings.with_rate(0.2)


def prepare(data):
    """Returns the data at 16 pixels, normalized, with fewer examples to validate on.

    A validation ends every epoch of 100 steps, and 5,000 examples would take as long as the steps.
    """
    data = dynamic_cifar10.prepare(data)
    return dataclasses.replace(data, validation=tuple(a[:1000] for a in data.validation))


if __name__ == "__main__":
    comparison.run_benchmark(
        "continuous_cifar10", "cifar10", make_cells(), make_settings, 2000, prepare=prepare
    )
