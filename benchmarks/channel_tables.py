"""The table about channels, from the recorded results."""

import record
from markdown import table

NAMES = {
    "resnet_20": "ResNet-20, 32 px",
    "vgg_16": "VGG-16 with norms, 32 px",
    "MobileNetV2": "MobileNetV2, 96 px",
    "DenseNet121": "DenseNet-121, 64 px",
}


def channel_peers():
    """Returns the table of what is left here and with Torch-Pruning."""
    rows = []
    for name, found in record.read("channel_peers")["results"].items():
        cells = [
            f"{found['ratios'][kind][side]:.4f}"
            for kind in ("parameters", "flops")
            for side in ("here", "there")
        ]
        rows.append([NAMES[name], f"{found['dense']['parameters']:,}", *cells])
    head = ["network", "parameters", "left: parameters here", "Torch-Pruning", "FLOPs here"]
    return table([*head, "Torch-Pruning"], rows)
