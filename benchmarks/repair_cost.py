"""Seconds and memory of a repair after pruning 90% by magnitude.

LeNet-300-100 with 2,000 inputs, and ResNet-50 at 224 pixels with 128 images. Inputs and weights are
random, since neither changes what a repair costs. The memory is the highest that the process has
had, with Keras and the network; `gigabytes_before` is that before the repair. `--inputs` of fewer
images tells beforehand what to expect.

    KERAS_BACKEND=tensorflow python benchmarks/repair_cost.py lenet_300_100
    KERAS_BACKEND=tensorflow python benchmarks/repair_cost.py resnet_50

The claims, stated before the runs, on two cores: LeNet takes less than 5 seconds, ResNet-50 at
most 3 GB and 10 minutes.
"""

import argparse
import resource
import time

import numpy as np
import record

import tf_lottery as tfl
from tf_lottery.experiments import models

SPARSITY = 0.9
# Function, shape of an input, number of inputs, batch size.
NETWORKS = {
    "lenet_300_100": (models.lenet_300_100, (28, 28, 1), 2000, 500),
    "resnet_50": (models.resnet_50, (224, 224, 3), 128, 4),
}


def peak_gigabytes():
    """Returns the highest memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main():
    """Prunes, repairs and records the cost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("network", choices=list(NETWORKS))
    parser.add_argument("--inputs", type=int, help="fewer than are recorded by default")
    args = parser.parse_args()
    make, shape, count, batch_size = NETWORKS[args.network]
    count = args.inputs or count
    x = np.random.default_rng(0).normal(size=(count, *shape)).astype("float32")
    sparse = tfl.sparsify(make(shape, seed=0))
    before = tfl.Snapshot(sparse)
    tfl.prune(sparse, SPARSITY)
    found = {"inputs": count, "batch_size": batch_size, "gigabytes_before": peak_gigabytes()}
    start, cpu = time.perf_counter(), time.process_time()
    report = tfl.repair(sparse, x, reference=before, batch_size=batch_size)
    found["seconds"] = time.perf_counter() - start
    found["cpu_seconds"] = time.process_time() - cpu
    found |= {"gigabytes": peak_gigabytes(), "layers": len(report.rows)}
    print(found)
    if args.inputs is None:
        record.update("repair_cost", {"sparsity": SPARSITY}, {args.network: found})


if __name__ == "__main__":
    main()
