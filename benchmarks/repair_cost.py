"""Memory and minutes of a repair of ResNet-50 at 224 pixels, 90% zeros by magnitude.

The images and weights are random, since neither changes what a repair costs. The memory is the
highest that the process has had, with TensorFlow and the network; `before` is that before the
repair. `--images` of fewer images tells beforehand what to expect.

    KERAS_BACKEND=tensorflow python benchmarks/repair_cost.py

The claim, stated before the run: 128 images take at most 3 GB and 10 minutes on two cores.
"""

import argparse
import resource
import time

import numpy as np
import record

import tf_lottery as tfl
from tf_lottery.experiments.models import resnet_50

SPARSITY, SIZE = 0.9, 224


def peak_gigabytes():
    """Returns the highest memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main():
    """Prunes, repairs and records the cost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--record", default="repair_cost", help="name of the file of results")
    args = parser.parse_args()
    x = np.random.default_rng(0).normal(size=(args.images, SIZE, SIZE, 3)).astype("float32")
    sparse = tfl.sparsify(resnet_50((SIZE, SIZE, 3), seed=0))
    before = tfl.Snapshot(sparse)
    tfl.prune(sparse, SPARSITY)
    found = {"gigabytes_before": peak_gigabytes()}
    start, cpu = time.perf_counter(), time.process_time()
    report = tfl.repair(sparse, x, reference=before, batch_size=args.batch_size)
    found["seconds"] = time.perf_counter() - start
    found["cpu_seconds"] = time.process_time() - cpu
    found["gigabytes"] = peak_gigabytes()
    found["layers"] = len(report.rows)
    print(found)
    settings = {"sparsity": SPARSITY, "images": args.images, "batch_size": args.batch_size}
    record.write(args.record, settings, found)


if __name__ == "__main__":
    main()
