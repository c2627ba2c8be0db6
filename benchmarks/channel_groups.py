"""What is left of networks at half of the channels of every group, and whether outputs agree.

    python benchmarks/channel_groups.py [NETWORK ...] [--seed 0]

Every network gets random weights, and norms as after training: scales, shifts and statistics that
are not zero. Half of the channels of every group are pruned by L1 norm, in widths of any size and
in multiples of 8, and `tfl.compact` removes them. Without names, all networks are measured that
are not in the record yet. The record is written after each of them.

What it should show: at most 26% of the parameters and of the FLOPs of ResNet-20 are left. For all
networks the compacted network predicts as the masked one, to 1e-5 of the largest output, and what
is left agrees with the accounting of the groups to the last parameter. One line for each network
and rounding:

    resnet_20            round_to=1  parameters 0.25  FLOPs 0.25  difference 2e-07
"""

import argparse
import time

import keras
import numpy as np
import record
from channel_networks import NETWORKS, OF_KERAS_HUB, example_shape, examples, has_keras_hub

import tf_lottery as tfl

SPARSITY, BATCH = 0.5, 4


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
    x, shape = examples(model, BATCH, rng), example_shape(model)
    start = time.perf_counter()
    groups = tfl.channel_groups(model, input_shape=shape)
    sparse = tfl.sparsify(model, pattern=tfl.sparsity.Channel(round_to), groups=groups)
    tfl.prune(sparse, SPARSITY, scores="l1")
    expected = sparse.predict(x, verbose=0)
    small, report = tfl.compact(sparse)
    seconds = time.perf_counter() - start
    found = small.predict(x, verbose=0)
    kept, accounting = sparse.kept_channels(), groups.accounting
    costs = [tfl.flops(net, "mac", input_shape=shape).dense for net in (model, small)]
    return {
        "groups": len(groups),
        "channels": sum(group.width for group in groups),
        "parameters": model.count_params(),
        "parameters_left": small.count_params() / model.count_params(),
        "parameters_expected": accounting.parameters(kept) / model.count_params(),
        "flops": costs[0],
        "flops_left": costs[1] / costs[0],
        "flops_expected": accounting.flops(kept) / costs[0],
        "difference": float(np.abs(found - expected).max() / np.abs(expected).max()),
        "groups_that_stay": report.groups,
        "seconds": seconds,
    }


def main():
    """Measures the networks that are asked for, or those not recorded yet, and records them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", choices=[[], *NETWORKS], default=[])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = {"sparsity": SPARSITY, "batch": BATCH, "seed": arguments.seed}
    results = recorded(settings)
    for name in arguments.networks or [name for name in NETWORKS if f"{name}/8" not in results]:
        if name in OF_KERAS_HUB and not has_keras_hub():
            print(f"{name:22} needs keras-hub, which is not installed", flush=True)
            continue
        for round_to in (1, 8):
            found = results[f"{name}/{round_to}"] = measure(name, round_to, arguments.seed)
            print(
                f"{name:22} round_to={round_to}  parameters {found['parameters_left']:.2f}  "
                f"FLOPs {found['flops_left']:.2f}  difference {found['difference']:.0e}",
                flush=True,
            )
        record.write("channel_groups", settings, results)


def recorded(settings):
    """Returns the results of earlier runs with the same settings."""
    try:
        earlier = record.read("channel_groups")
    except FileNotFoundError:
        return {}
    return earlier["results"] if earlier["settings"] == settings else {}


if __name__ == "__main__":
    main()
