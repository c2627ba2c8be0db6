"""The table of FLOPs that papers publish, from the recorded results."""

import record
from markdown import table

NETWORKS = {
    "resnet_50": "ResNet-50",
    "mobilenet_v1": "MobileNet-v1",
    "wide_resnet_22_2": "Wide ResNet-22-2",
    "mnist": "LeNet-300-100",
}


def published_flops():
    """Returns the table of published FLOPs and sizes beside those that were counted."""
    found = record.read("flops_tables")["results"]
    rows = [
        [network, row["name"], f"{row['published']:g}", f"{row['found']:.4g}"]
        for key, network in NETWORKS.items()
        for row in found[key]
    ]
    return table(["network", "sparsity, distribution, method", "published", "counted"], rows)
