"""Compares `tfl.flops` with the FLOPs tables of "Rigging the Lottery" (arXiv:1911.11134).

    KERAS_BACKEND=tensorflow python benchmarks/flops_tables.py

What it should print: no difference above 0.0051 for ratios of ResNet-50 and WRN-22-2 (the
papers give two decimals), 0.02 MFLOPs and 0.001 MB for MobileNet-v1, 0.05 GFLOPs for MNIST.
Published ratios are those of figure 2, or of the code's README where it corrects the paper: for
uniform sparsities of 0.9 (the paper's come from a sparse first layer) and for 0.95 and 0.965
(the paper's appendix repeats numbers of 0.8 and 0.9). For WRN-22-2 they are those of the
reproduction by Sundar & Dwaraknath (arXiv:2103.15767), for MNIST those of table 2.
"""

import keras
import record

import tf_lottery as tfl
from tf_lottery.experiments import models
from tf_lottery.sparsity import Polynomial, erdos_renyi_kernel, uniform

# Ratios to the dense network: sparsity, distribution, dense first layer, training, inference.
RESNET_50 = [
    (0.8, "erk", False, {"rigl": 0.42, "snfs": 0.61, "static": 0.42}, 0.42),
    (0.8, "uniform", True, {"rigl": 0.23, "set": 0.23, "pruning": 0.56}, 0.23),
    (0.9, "erk", False, {"rigl": 0.25, "snfs": 0.50, "static": 0.24}, 0.24),
    (0.9, "uniform", True, {"rigl": 0.13, "set": 0.13, "pruning": 0.51}, 0.13),
    (0.9, "uniform", False, {"rigl": 0.10, "set": 0.10}, 0.10),
    (0.95, "erk", False, {"rigl": 0.13}, 0.12),
    (0.95, "uniform", True, {"rigl": 0.08}, 0.08),
    (0.965, "erk", False, {"rigl": 0.09}, 0.09),
    (0.965, "erk", True, {}, 0.11),
    (0.965, "uniform", True, {"rigl": 0.07}, 0.07),
    (0.99, "erk", True, {"rigl": 0.06}, 0.05),
]
# Length and cost of training, relative to the dense network's.
STRETCHED = [
    (0.8, "erk", "rigl", 5, 2.09),
    (0.8, "uniform", "rigl", 5, 1.14),
    (0.8, "uniform", "pruning", 1.5, 0.84),
    (0.9, "erk", "rigl", 5, 1.23),
    (0.9, "uniform", "pruning", 1.5, 0.76),
]
# MFLOPs and MB of the code's notebook; depthwise kernels are dense.
MOBILENET = [
    (0.0, "erk", 1141.544, 16.864),
    (0.75, "erk", 599.144, 4.888),
    (0.85, "erk", 439.152, 3.224),
    (0.9, "erk", 334.134, 2.392),
    (0.95, "erk", 205.281, 1.560),
    (0.75, "uniform", 330.769, 4.894),
    (0.85, "uniform", 222.666, 3.229),
    (0.9, "uniform", 168.614, 2.396),
    (0.95, "uniform", 114.563, 1.563),
]
WIDE_RESNET = [
    (0.8, "erk", False, {}, 0.35),
    (0.9, "erk", False, {}, 0.17),
    (0.8, "uniform", True, {}, 0.20),
]
# Sizes, sparsities while training, GFLOPs of training.
MNIST = [
    ("dense", (784, 300, 100, 10), (0, 0, 0), 13521.6),
    ("SBP, retrained", (245, 160, 55, 10), (0, 0, 0), 2554.8),
    ("L0, retrained", (266, 88, 33, 10), (0, 0, 0), 1356.4),
    ("VIB, retrained", (97, 71, 33, 10), (0, 0, 0), 523.0),
    ("RigL", (784, 300, 100, 10), (0.99, 0.891, 0), 482.0),
    ("RigL+", (408, 100, 69, 10), (0.96, 0.864, 0), 206.3),
]
MNIST_EXAMPLES = 200 * 60_000


def at_sparsity(report, sparsity, distribution, custom=None):
    """Returns the report of the model with a distribution's sparsities."""
    shapes = {row.path: row.shape for row in report.rows}
    function = {"erk": erdos_renyi_kernel, "uniform": uniform}[distribution]
    return report.with_sparsities(function(shapes, sparsity, custom=custom))


def training_ratio(report, method, sparsity):
    """Returns the cost of training as a fraction of the dense model's."""
    options = {}
    if method == "pruning":
        schedule = Polynomial(final_value=sparsity, begin_step=10_000, end_step=25_000)
        options = {"frequency": 1000, "schedule": schedule, "total_steps": 32_000}
    return report.training(method, **options) / report.training("dense")


def ratio_rows(report, rows):
    """Returns inference and training of every row as fractions of the dense network's."""
    table = []
    for sparsity, distribution, dense_first, training, inference in rows:
        custom = {report.rows[0].path: 0.0} if dense_first else None
        sparse = at_sparsity(report, sparsity, distribution, custom)
        name = f"{sparsity} {distribution}{', first layer dense' if dense_first else ''}"
        table.append(compare(f"{name}: inference", inference, sparse.ratio))
        for method, published in training.items():
            found = training_ratio(sparse, method, sparsity)
            table.append(compare(f"{name}: {method}", published, found))
    return table


def stretched_rows(report):
    """Returns the cost of longer training as fractions of the dense network's."""
    table = []
    for sparsity, distribution, method, factor, published in STRETCHED:
        custom = {report.rows[0].path: 0.0} if distribution == "uniform" else None
        sparse = at_sparsity(report, sparsity, distribution, custom)
        found = factor * training_ratio(sparse, method, sparsity)
        table.append(compare(f"{sparsity} {distribution}: {method} {factor}x", published, found))
    return table


def mobilenet_rows():
    """Returns MFLOPs and MB of inference."""
    report = tfl.flops(models.mobilenet_v1(seed=0, symmetric_padding=True), "micronet")
    dense = {row.path: 0.0 for row in report.rows if "depthwise" in row.path}
    table = []
    for sparsity, distribution, mflops, megabytes in MOBILENET:
        first = {report.rows[0].path: 0.0} if distribution == "uniform" else {}
        sparse = at_sparsity(report, sparsity, distribution, {**dense, **first})
        name = f"{sparsity} {distribution}"
        table.append(compare(f"{name}: MFLOPs", mflops, sparse.sparse / 1e6))
        table.append(compare(f"{name}: MB", megabytes, sparse.num_bytes["bitmask"] / 1e6))
    return table


def mnist_rows():
    """Returns GFLOPs of training."""
    table = []
    for name, (inputs, *units), sparsities, gflops in MNIST:
        model = keras.Sequential([keras.Input((inputs,)), *map(keras.layers.Dense, units)])
        report = tfl.flops(model)
        paths = [row.path for row in report.rows]
        sparse = report.with_sparsities(dict(zip(paths, sparsities, strict=True)))
        method = "rigl" if any(sparsities) else "dense"
        found = MNIST_EXAMPLES * sparse.training(method, first_input_gradient=False)
        table.append(compare(name, gflops, found / 1e9))
    return table


def compare(name, published, found):
    """Returns a row of a table."""
    return {
        "name": name,
        "published": published,
        "found": found,
        "difference": abs(found - published),
    }


def main():
    """Counts, records and prints."""
    resnet_50 = tfl.flops(models.resnet_50(seed=0), "micronet")
    wide_resnet = tfl.flops(models.wide_resnet_22_2(seed=0))
    tables = {
        "resnet_50": ratio_rows(resnet_50, RESNET_50) + stretched_rows(resnet_50),
        "mobilenet_v1": mobilenet_rows(),
        "wide_resnet_22_2": ratio_rows(wide_resnet, WIDE_RESNET),
        "mnist": mnist_rows(),
    }
    record.write("flops_tables", {"frequency": 100, "pruning_frequency": 1000}, tables)
    for name, rows in tables.items():
        print(name)
        for row in rows:
            print("  {name:45} {published:10} {found:12.4f} {difference:9.4f}".format(**row))


if __name__ == "__main__":
    main()
