"""A global mask over the 25.5 million weights of ResNet-50: time and memory.

    python benchmarks/mask_selection.py

What it should show: `top_k_masks` takes at most a third of the time of `np.argsort` on the same
array, and at most 2.5 times the scores' memory, the scores included.
"""

import statistics
import time
import tracemalloc

import numpy as np
import record

from tf_lottery.sparsity.masks import top_k_masks

SIZE, LAYERS, ROUNDS, SPARSITY = 25_500_000, 50, 5, 0.8


def seconds(function):
    """Returns how long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main():
    """Measures both alternately and records medians."""
    scores = np.abs(np.random.default_rng(0).standard_normal(SIZE, dtype="float32"))
    layers = {f"layer_{i}": part for i, part in enumerate(np.array_split(scores, LAYERS))}
    times = {"argsort": [], "top_k_masks": []}
    for _ in range(ROUNDS):
        times["argsort"].append(seconds(lambda: np.argsort(scores)))
        times["top_k_masks"].append(seconds(lambda: top_k_masks(layers, SPARSITY, scope="global")))
    ratios = [b / a for a, b in zip(times["argsort"], times["top_k_masks"], strict=True)]
    tracemalloc.start()
    masks = top_k_masks(layers, SPARSITY, scope="global")
    peak = tracemalloc.get_traced_memory()[1] + scores.nbytes
    kept = sum(int(np.count_nonzero(mask)) for mask in masks.values())
    results = {
        "seconds": {name: statistics.median(values) for name, values in times.items()},
        "time_ratio": statistics.median(ratios),
        "memory_ratio": peak / scores.nbytes,
        "kept": kept,
        "asked": SIZE - round(SPARSITY * SIZE),
    }
    record.write("mask_selection", {"size": SIZE, "sparsity": SPARSITY, "seed": 0}, results)
    print(results)


if __name__ == "__main__":
    main()
