"""The table of FLOPs that papers publish, from the recorded results."""

import record
from markdown import table

# FLOPs a second that an accelerator reaches in a training, to estimate hours.
SUSTAINED = 50e12

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


def reproductions():
    """Returns the table of the trainings of the papers."""
    found = record.read("reproductions")["results"]
    rows = [
        [
            f"`{name}`",
            f"{row['found']['parameters']:,}",
            _beside(row, "megabytes", ".3f"),
            _beside(row, "inference_flops", ".2f"),
            f"{row['examples'] / 1e6:,.1f}",
            f"{row['dense_training_flops'] / SUSTAINED / 3600:.2g}",
            f"{row['seconds_a_step']:.2f}",
            f"{row['peak_bytes'] / 1e9:.1f}",
        ]
        for name, row in found.items()
    ]
    return table(
        [
            "training",
            "parameters",
            "MB (paper)",
            "FLOPs of dense (paper)",
            "million examples",
            "hours at 50 TFLOP/s",
            "seconds for 8 examples",
            "GB",
        ],
        rows,
    )


def _beside(row, name, form):
    """Returns a number with the paper's in brackets, if it reports one."""
    published = row["published"].get(name)
    found = format(row["found"][name], form)
    return found if published is None else f"{found} ({published:{form}})"
