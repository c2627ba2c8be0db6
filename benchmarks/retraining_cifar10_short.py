"""Tickets of a small ResNet on CIFAR-10, retrained for few steps with tweaks, and the controls.

The experiment of "Training Your Sparse Neural Network Better with Any Mask" (arXiv:2206.12755) at a
size for a CPU: ResNet-8 with a strided stem, Adam 1.2e-3 along a cosine, batch 64. Tickets with
82, 90, 94.5 and 97% zeros come from iterative magnitude pruning with 1,200 steps a level, rewound
to step 120; they are retrained for 750 steps. The teacher is dense and trains for 4,000 steps.
Soft activations and ghost skips are annealed over the first half. Three seeds.

    KERAS_BACKEND=tensorflow python benchmarks/retraining_cifar10_short.py --data-dir DIR

What it should show: in such a short training, soft activations with label smoothing gain half a
point at 94.5 and 96.9% zeros, and with rescaled initialization one point at 96.9%. Ghost skips lose
two points and the teacher three or more. In combinations they cost as much: the paper's four tweaks
lose one to four points, all five about five or six. The same masks with new weights, and shuffled
masks, are eight points or more below the ticket.

A killed run is resumed when it is started again. About two hours on one CPU core.
"""

import retraining
from retraining import CONTROLS, PAPER, Budget

TWEAKS = {
    "vanilla": (),
    **{tweak: (tweak,) for tweak in (*PAPER, "distillation")},
    "soft_and_smooth": ("soft_activations", "label_smoothing"),
    "without_ghosts": tuple(tweak for tweak in PAPER if tweak != "ghost_skips"),
    "paper": PAPER,
    "all": (*PAPER, "distillation"),
}
BUDGET = Budget(
    search=4,
    search_steps=300,
    rewind_to_step=120,
    teacher=16,
    retraining=3,
    steps_per_epoch=250,
    batch_size=64,
)

if __name__ == "__main__":
    retraining.run_benchmark(
        "retraining_cifar10_short", "cifar10", "resnet-8-small", BUDGET, TWEAKS, CONTROLS[:2]
    )
