"""Tickets of LeNet-300-100 on MNIST, retrained with tweaks, and the controls.

As `retraining_cifar10_short.py`, with batches of 60: tickets from iterative magnitude pruning
with 1,600 steps a level, rewound to the start, are retrained for 1,600 steps; the teacher trains
for 6,400. There are no ghost skips, since the network has no convolutions. Three seeds.

    KERAS_BACKEND=jax python benchmarks/retraining_mnist.py --data-dir DIR

What it should show: label smoothing gains a tenth of a point at every sparsity, and rescaled
initialization more at higher ones, three tenths at 97%; soft activations and the teacher lose some
tenths; the paper's tweaks together gain at 94.5% zeros and above. New weights lose four points at
97%, but a quarter of a point if they keep the signs; shuffled masks lose six.

A killed run is resumed when it is started again. About half an hour on one CPU core.
"""

import retraining
from retraining import PAPER, Budget

FITTING = tuple(tweak for tweak in (*PAPER, "distillation") if tweak != "ghost_skips")
TWEAKS = {
    "vanilla": (),
    **{tweak: (tweak,) for tweak in FITTING},
    "soft_and_smooth": ("soft_activations", "label_smoothing"),
    "paper": FITTING[:-1],
    "all": FITTING,
}
BUDGET = Budget(
    search=4,
    search_steps=400,
    rewind_to_step=0,
    teacher=16,
    retraining=4,
    steps_per_epoch=400,
    batch_size=60,
)

if __name__ == "__main__":
    retraining.run_benchmark("retraining_mnist", "mnist", "lenet-300-100", BUDGET, TWEAKS)
