"""Dynamic sparse training of a GRU that predicts the next character of Shakespeare.

The language model of "Rigging the Lottery" (arXiv:1911.11134, section 4.2 and appendix I) at a size
for one CPU core: a GRU of 128 units, 75% sparsity, Adam, windows of 100 characters; 10% of the
connections are moved every 100 steps until the end of training, and initial weights are not
rescaled, as in the paper. Three seeds.

    KERAS_BACKEND=jax python benchmarks/dynamic_shakespeare.py --data-dir DIR

What it should show: RigL needs fewer bits per character than a static mask and more than gradual
pruning, as in the paper.

A killed run is resumed when it is started again. About twenty minutes on one CPU core.
"""

import comparison
from comparison import Case

from tf_lottery.experiments.training import TrainSettings

CASES = [
    Case("dense"),
    *[Case(method, 0.75, rescale=False) for method in ("static", "rigl")],
    Case("gmp", 0.75),
]


def make_settings(case, steps):
    """Returns the settings of a case: one epoch, which is evaluated at its end."""
    rigl = {"drop_fraction": 0.1, "frequency": 100, "end_step": steps}
    return TrainSettings(
        case.method,
        "gru",
        case.sparsity,
        epochs=1,
        steps_per_epoch=steps,
        batch_size=32,
        learning_rate=2e-3,
        **(rigl if case.method == "rigl" else {}),
        rescale=case.rescale,
    )


if __name__ == "__main__":
    comparison.run_benchmark(
        "dynamic_shakespeare", "tiny_shakespeare", CASES, make_settings, steps=3000
    )
