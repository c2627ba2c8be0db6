"""Continuous Sparsification of LeNet-300-100 on MNIST, against iterative magnitude pruning.

"Winning the Lottery with Continuous Sparsification" (arXiv:1912.04427) on the network of the
lottery ticket hypothesis: Adam 1.2e-3, batch 60, rounds and levels of four epochs. A search by
gates takes three rounds and a retraining, 16 epochs for any density; magnitude pruning takes a
level for every 20% of the remaining weights. Pruning mode keeps the weights of the last round and
is compared with gradual magnitude pruning of the same 12 epochs. Three seeds.

    KERAS_BACKEND=jax python benchmarks/continuous_mnist.py --data-dir DIR

What it should show: densities within 10% of the target, 11 to 12% without a target; tickets
at least about as accurate as those of magnitude pruning, in a fraction of the epochs: 98.2% at
11.5% density, 98.4% at 3.4% and 97.3% at 0.7%.

A killed run is resumed when it is started again. About half an hour on one CPU core.
"""

import comparison
from comparison import Case

from tf_lottery.experiments.training import TrainSettings

EPOCHS, ROUNDS = 4, 3
CASES = [
    Case("dense"),
    Case("cs"),
    *[Case("cs", sparsity) for sparsity in (0.8, 0.9, 0.95, 0.966, 0.98, 0.993)],
    *[Case(method, sparsity) for sparsity in (0.9, 0.95, 0.98) for method in ("cs_prune", "gmp")],
    # One search passes all densities.
    Case("imp", 0.98),
]


def make_settings(case, steps, model="lenet-300-100", initial_value=0.0):
    """Returns the settings of a case, with `steps` steps per epoch.

    Args:
        case: `Case`; `"cs_prune"` is the pruning mode.
        steps: Integer.
        model: String. Defaults to `"lenet-300-100"`.
        initial_value: Float, that of the gates. Defaults to `0.0`.
    """
    common = {"model": model, "steps_per_epoch": steps, "batch_size": 60, "learning_rate": 1.2e-3}
    if case.method in ("cs", "cs_prune"):
        return TrainSettings(
            "cs",
            epochs=EPOCHS,
            rounds=ROUNDS,
            initial_value=initial_value,
            target_density=None if case.sparsity is None else round(1 - case.sparsity, 4),
            mode="prune" if case.method == "cs_prune" else "ticket",
            **common,
        )
    epochs = EPOCHS if case.method == "imp" else EPOCHS * ROUNDS
    settings = TrainSettings(case.method, sparsity=case.sparsity, epochs=epochs, **common)
    return settings.with_rate(0.2) if case.method == "imp" else settings


if __name__ == "__main__":
    comparison.run_benchmark("continuous_mnist", "mnist", CASES, make_settings, steps=916)
