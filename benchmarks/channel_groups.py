"""What is left of networks at half of the channels of every group, and whether outputs agree.

    python benchmarks/channel_groups.py [NETWORK ...] [--seed 0]

Every network gets random weights, and norms as after training: scales, shifts and statistics that
are not zero. Half of the channels of every group are pruned by L1 norm, in widths of any size and
in multiples of 8, and `tfl.compact` removes them.

What it should show: at most 26% of the parameters and of the FLOPs of ResNet-20 are left. For all
networks the compacted network predicts as the masked one, to 1e-5 of the largest logit. What is
left agrees with the accounting of the groups to the last parameter, except for MobileNetV3Small:
its activations add numbers to tensors, for which compaction has no rule. One line for each network
and rounding:

    resnet_20            round_to=1  parameters 0.25  FLOPs 0.25  difference 2e-07
"""

import argparse
import time

import keras
import numpy as np
import record

import tf_lottery as tfl
from tf_lottery.experiments import models
from tf_lottery.structured.selection import accounting_of

SPARSITY, BATCH = 0.5, 4
APPLICATIONS = {
    "ResNet50V2": 64,
    "MobileNetV2": 96,
    "MobileNetV3Small": 96,
    "EfficientNetB0": 64,
    "DenseNet121": 64,
    "ConvNeXtTiny": 64,
    "InceptionV3": 96,
    "VGG16": 32,
}


def application(name, size):
    """Returns a network of `keras.applications` with ten classes, from images to logits."""
    build = getattr(keras.applications, name)
    return build(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)


NETWORKS = {
    "resnet_20": lambda: models.resnet_20(seed=0),
    **{
        name: lambda name=name, size=size: application(name, size)
        for name, size in APPLICATIONS.items()
    },
}


def train_norms(model, rng):
    """Gives the weights that are one number for each channel values as after training."""
    for weight in model.weights:
        if len(weight.shape) == 1:
            is_positive = weight.name == "gamma" or weight.name.endswith("variance")
            low, high = (0.5, 1.5) if is_positive else (-0.3, 0.3)
            weight.assign(rng.uniform(low, high, weight.shape))


def measure(name, round_to, seed):
    """Returns what is left of a network, and how far its outputs are from those of the masks."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = NETWORKS[name]()
    train_norms(model, rng)
    images = rng.normal(size=(BATCH, *model.input_shape[1:])).astype("float32")
    start = time.perf_counter()
    sparse = tfl.sparsify(model, pattern=tfl.sparsity.Channel(round_to))
    tfl.prune(sparse, SPARSITY, scores="l1")
    expected = sparse.predict(images, verbose=0)
    small, _ = tfl.compact(sparse)
    seconds = time.perf_counter() - start
    found = small.predict(images, verbose=0)
    accounting, kept = accounting_of(sparse), sparse.kept_channels()
    costs = [tfl.flops(network, "mac").dense for network in (model, small)]
    return {
        "groups": len(sparse.groups),
        "channels": sum(group.width for group in sparse.groups),
        "parameters": model.count_params(),
        "parameters_left": small.count_params() / model.count_params(),
        "parameters_expected": accounting.parameters(kept) / model.count_params(),
        "flops": costs[0],
        "flops_left": costs[1] / costs[0],
        "flops_expected": accounting.flops(kept) / costs[0],
        "difference": float(np.abs(found - expected).max() / np.abs(expected).max()),
        "seconds": seconds,
    }


def main():
    """Measures the networks that are asked for, or all, and records them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", choices=[[], *NETWORKS], default=[])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    results = {}
    for name in arguments.networks or NETWORKS:
        for round_to in (1, 8):
            found = results[f"{name}/{round_to}"] = measure(name, round_to, arguments.seed)
            print(
                f"{name:20} round_to={round_to}  parameters {found['parameters_left']:.2f}  "
                f"FLOPs {found['flops_left']:.2f}  difference {found['difference']:.0e}",
                flush=True,
            )
    record.write(
        "channel_groups", {"sparsity": SPARSITY, "batch": BATCH, "seed": arguments.seed}, results
    )


if __name__ == "__main__":
    main()
