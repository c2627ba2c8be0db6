"""What is left of networks at half of their channels: here and with Torch-Pruning.

    pip install torch torchvision torch-pruning==1.6.1
    KERAS_BACKEND=torch python benchmarks/channel_peers.py [NETWORK ...] [--seed 0]

The same networks in PyTorch and in Keras, with equally many parameters and multiplications, which
is checked: ResNet-20 and VGG-16 with norms for CIFAR-10, and MobileNetV2 and DenseNet-121 of
torchvision and of Keras. Half of the channels of every group are pruned by L1 norm, each group by
itself, in widths of any size. Both sides leave the last layer alone, whose outputs are those of
the network. In Torch-Pruning these are its own defaults beside `ignored_layers`: the dependency
graph of "DepGraph" (arXiv:2301.12900), `MagnitudeImportance(p=1)`, `global_pruning=False`,
`round_to=None`. Parameters are the trainable ones, and FLOPs are multiplications counted by
PyTorch's own counter while each network runs, on both sides.

What it should show: the parameters and FLOPs left are equal to within 1% of each other. One line
for each network:

    resnet_20    parameters 0.255 here, 0.255 there  FLOPs 0.254 here, 0.254 there
"""

import argparse

import keras
import numpy as np
import record
import torch
import torch_pruning
import torchvision
from channel_groups import train_norms
from channel_networks import application
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import tf_lottery as tfl
from tf_lottery.experiments import models

SPARSITY, CLASSES, TOLERANCE = 0.5, 10, 0.01


class Block(nn.Module):
    """A residual block of two convolutions, with a 1x1 convolution where the shape changes."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.body = nn.Sequential(
            *_conv_norm(channels, filters, 3, stride), nn.ReLU(), *_conv_norm(filters, filters, 3)
        )
        is_same = channels == filters
        self.shortcut = (
            nn.Identity() if is_same else nn.Sequential(*_conv_norm(channels, filters, 1, stride))
        )

    def forward(self, x):
        """Returns the activations of the block."""
        return torch.relu(self.body(x) + self.shortcut(x))


def _conv_norm(channels, filters, size, stride=1):
    conv = nn.Conv2d(channels, filters, size, stride, padding=size // 2, bias=False)
    return conv, nn.BatchNorm2d(filters)


def resnet_20():
    """Returns ResNet-20 in PyTorch, as `models.resnet_20` is in Keras."""
    layers, channels = [*_conv_norm(3, 16, 3), nn.ReLU()], 16
    for filters in (16, 32, 64):
        for _ in range(3):
            layers.append(Block(channels, filters, 1 if channels == filters else 2))
            channels = filters
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)
    return nn.Sequential(*layers, *head)


def vgg_16():
    """Returns VGG-16 with norms in PyTorch, as `models.vgg_16` is in Keras."""
    layers, channels = [], 3
    for width in torchvision.models.vgg.cfgs["D"][:-1]:
        if width == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [*_conv_norm(channels, width, 3), nn.ReLU()]
            channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)
    )


# Rows of the images, the network in PyTorch and in Keras.
NETWORKS = {
    "resnet_20": (32, resnet_20, lambda: models.resnet_20(seed=0)),
    "vgg_16": (32, vgg_16, lambda: models.vgg_16(seed=0)),
    "MobileNetV2": (
        96,
        lambda: torchvision.models.mobilenet_v2(num_classes=CLASSES),
        lambda: application("MobileNetV2", 96),
    ),
    "DenseNet121": (
        64,
        lambda: torchvision.models.densenet121(num_classes=CLASSES),
        lambda: application("DenseNet121", 64),
    ),
}


def costs(network, images):
    """Returns the trainable parameters of a network and its multiplications for one image."""
    is_keras = isinstance(network, keras.Model)
    weights = network.trainable_weights if is_keras else network.parameters()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(images, training=False) if is_keras else network.eval()(images)
    # PyTorch counts a multiplication and an addition.
    return {
        "parameters": sum(int(np.prod(tuple(weight.shape))) for weight in weights),
        "flops": counter.get_total_flops() // 2,
    }


def prune_there(network, images):
    """Prunes a PyTorch network with Torch-Pruning."""
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    torch_pruning.BasePruner(
        network,
        images,
        torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=SPARSITY,
        ignored_layers=[last],
    ).step()
    return network


def prune_here(model, images):
    """Returns the compacted Keras network, and how far its outputs are from the masked one's."""
    sparse = tfl.sparsify(model, pattern="channel")
    tfl.prune(sparse, SPARSITY, scores="l1")
    small, _ = tfl.compact(sparse)
    expected, found = (
        keras.ops.convert_to_numpy(network(images, training=False)) for network in (sparse, small)
    )
    return small, float(np.abs(found - expected).max() / np.abs(expected).max())


def compare(name, seed):
    """Returns what is left of a network on both sides."""
    keras.utils.set_random_seed(seed)
    size, build_there, build_here = NETWORKS[name]
    there, here = build_there(), build_here()
    train_norms(here, np.random.default_rng(seed))
    images = torch.randn(1, 3, size, size)
    images_here = images.permute(0, 2, 3, 1).contiguous()
    dense = costs(here, images_here)
    if dense != costs(there, images):
        raise AssertionError(f"{name} differs: {dense} in Keras, {costs(there, images)} in PyTorch")
    small, difference = prune_here(here, images_here)
    left = {
        "here": costs(small, images_here),
        "there": costs(prune_there(there, images), images),
    }
    ratios = {
        kind: {side: found[kind] / dense[kind] for side, found in left.items()} for kind in dense
    }
    return {
        "image_size": size,
        "dense": dense,
        "left": left,
        "ratios": ratios,
        "largest_relative_difference": max(
            abs(ratio["here"] / ratio["there"] - 1) for ratio in ratios.values()
        ),
        "difference_of_outputs": difference,
    }


def main():
    """Compares the networks that are asked for, or all, and records them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", choices=[[], *NETWORKS], default=[])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    results = {}
    for name in arguments.networks or NETWORKS:
        results[name] = compare(name, arguments.seed)
        parameters, flops = results[name]["ratios"].values()
        print(
            f"{name:12} parameters {parameters['here']:.3f} here, {parameters['there']:.3f} there  "
            f"FLOPs {flops['here']:.3f} here, {flops['there']:.3f} there",
            flush=True,
        )
    settings = {
        "sparsity": SPARSITY,
        "scores": "l1",
        "scope": "layer",
        "round_to": 1,
        "ignored_layers": "the last dense layer",
        "tolerance": TOLERANCE,
        "seed": arguments.seed,
    }
    record.write("channel_peers", settings, results)
    for name, found in results.items():
        if found["largest_relative_difference"] > TOLERANCE:
            raise AssertionError(f"{name} differs by more than {TOLERANCE}: {found['ratios']}")


if __name__ == "__main__":
    main()
