"""Instructions that LiteRT executes on ARM for sparse networks, as a fraction of dense ones.

    KERAS_BACKEND=tensorflow python benchmarks/xnnpack_arm.py --root ROOT --packages PACKAGES

ROOT is the folder of an ARM64 Linux with Python, PACKAGES one with the unpacked ARM64 wheels
of `ai-edge-litert` and NumPy. On Debian, as root:

    apt-get install qemu-user debootstrap gcc
    debootstrap --foreign --arch=arm64 --variant=minbase \\
        --include=python3.11,libstdc++6,libgomp1,zlib1g,libffi8,libexpat1,libssl3 bookworm ROOT
    for package in ROOT/var/cache/apt/archives/*.deb; do dpkg-deb -x $package ROOT; done
    mkdir -p ROOT/proc ROOT/sys/devices/system/cpu
    for file in possible present online; do echo 0 > ROOT/sys/devices/system/cpu/$file; done
    printf 'processor : 0\\nFeatures : fp asimd\\nCPU implementer : 0x41\\n' > ROOT/proc/cpuinfo
    printf 'CPU architecture: 8\\nCPU variant : 0x0\\nCPU part : 0xd08\\n' >> ROOT/proc/cpuinfo
    pip download --only-binary=:all: --no-deps --python-version 3.11 --implementation cp \\
        --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 \\
        --dest WHEELS ai-edge-litert numpy
    for wheel in WHEELS/*.whl; do unzip -q $wheel -d PACKAGES; done

What it should show: for MobileNet with symmetric padding at most 0.5, 0.35 and 0.25 of the
dense file's instructions at 80%, 90% and 95%. For the small networks at 90% it depends on what
`sparse_inference_report` says: "sparse" means less than 0.6 of the instructions and the same
outputs, "dense" the same number of instructions, and "broken" wrong outputs or a file that does not
load. Counts are exact to a percent and do not include the cost of memory: on phones, the ratio of
times is between this one and that of multiplications.
"""

import argparse
import importlib.metadata
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import keras
import numpy as np
import record
import xnnpack_networks as networks

from tf_lottery.export.conversion import convert
from tf_lottery.export.inputs import make_inputs
from tf_lottery.export.sparse_flatbuffer import sparsify_flatbuffer
from tf_lottery.export.xnnpack import sparse_inference_report

HERE = pathlib.Path(__file__).parent
SPARSITIES, SMALL_SPARSITY = (0.8, 0.9, 0.95), 0.9
APPLICATIONS = ("MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0")
TOLERANCE = 1e-4


def main():
    """Builds the files, runs them emulated and records."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=pathlib.Path, required=True, help="ARM64 Linux")
    parser.add_argument("--packages", type=pathlib.Path, required=True, help="ARM64 wheels")
    parser.add_argument("--size", type=int, default=224, help="of MobileNet's images")
    args = parser.parse_args()
    missing = _missing(args)
    if missing:
        sys.exit(f"Skipped: {', '.join(missing)} missing; see the text of this script.")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        results = {"mobilenet": {}, "small": {}, "applications": {}}
        for sparsity in SPARSITIES:
            model = networks.mobilenet(args.size)
            results["mobilenet"][str(sparsity)] = _compare(model, sparsity, folder, args)
        model = networks.mobilenet(args.size, symmetric_padding=False)
        results["mobilenet"]["0.9, padding of Keras"] = _compare(model, 0.9, folder, args)
        for variant in networks.VARIANTS:
            model = networks.small(variant)
            results["small"][variant] = _compare(model, SMALL_SPARSITY, folder, args)
        model = networks.small()
        results["small"]["base, 60% zeros"] = _compare(model, 0.6, folder, args)
        for name in APPLICATIONS:
            model = getattr(keras.applications, name)(input_shape=(96, 96, 3), weights=None)
            results["applications"][name] = _compare(model, SMALL_SPARSITY, folder, args)
    settings = {"size": args.size, "cpu": "cortex-a72", "seed": 0, **_versions(args.packages)}
    record.write("xnnpack_arm", settings, results)


def _missing(args):
    tools = [tool for tool in ("qemu-aarch64", "gcc") if not shutil.which(tool)]
    python = [] if _python(args.root) else [f"{args.root}/usr/bin/python3.*"]
    package = args.packages / "ai_edge_litert"
    return tools + python + ([] if package.is_dir() else [str(package)])


def _python(root):
    return next(iter(sorted((root / "usr/bin").glob("python3.*[0-9]"))), None)


def _versions(packages):
    wheels = importlib.metadata.distributions(path=[str(packages)])
    versions = {f"arm64 {wheel.name}": wheel.version for wheel in wheels}
    text = subprocess.run(["qemu-aarch64", "--version"], capture_output=True, text=True, check=True)
    return {**versions, "qemu": text.stdout.split()[2]}


def _compare(model, sparsity, folder, args):
    """Returns the verdict, and the instructions of a sparse-stored and a dense-stored file."""
    networks.draw_weights(model, sparsity)
    inputs = make_inputs(model, None, seed=0)
    names = [f"output_{i}" for i in range(len(model.outputs))]
    dense = convert(model, inputs, names)
    sparse = sparsify_flatbuffer(dense)
    report = sparse_inference_report(sparse)
    paths = [folder / "dense.tflite", folder / "sparse.tflite"]
    for path, content in zip(paths, (dense, sparse), strict=True):
        path.write_bytes(content)
    counts, errors = _run(paths, folder, args)
    result = {
        "verdict": report.verdict,
        "sparsity": report.sparsity,
        "problems": report.problems,
        "dense_instructions": counts.get(str(paths[0])),
        "sparse_instructions": counts.get(str(paths[1])),
        "error": errors.get(str(paths[1]), ""),
    }
    if not result["error"]:
        result["ratio"] = result["sparse_instructions"] / result["dense_instructions"]
        result["relative_difference"] = _difference(*paths)
    result["agrees"] = _agrees(result)
    print(json.dumps(result), flush=True)
    return result


def _agrees(result):
    """Returns whether the machine behaved as the report says."""
    if result["error"] or result["relative_difference"] > TOLERANCE:
        return result["verdict"] == "broken"
    return result["verdict"] == ("sparse" if result["ratio"] < 0.97 else "dense")


def _difference(dense, sparse):
    with np.load(f"{dense}.npz") as expected, np.load(f"{sparse}.npz") as actual:
        pairs = [(expected[name], actual[name]) for name in expected.files]
    if any(a.shape != b.shape for a, b in pairs):
        return 1.0
    return max(float(np.max(np.abs(a - b)) / np.max(np.abs(a))) for a, b in pairs)


def _run(paths, folder, args):
    """Returns the executed instructions and the error messages of files."""
    plugin = folder / "plugin.so"
    if not plugin.exists():
        source = HERE / "xnnpack_arm_plugin.c"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", plugin, source], check=True)
    command = ["qemu-aarch64", "-cpu", "cortex-a72", "-plugin", plugin, "-L", args.root]
    command += [_python(args.root), HERE / "xnnpack_arm_guest.py", args.packages, *paths]
    process = subprocess.run(command, capture_output=True, text=True)
    counts, errors, path = {}, {}, None
    for line in process.stderr.splitlines():
        word, _, rest = line.partition(" ")
        if word == "file":
            path = rest
        elif word == "instructions":
            counts[path] = int(rest)
        elif word == "error":
            errors[path] = rest
    if process.returncode and not counts:
        sys.exit(f"The emulated Python failed: {process.stderr[-500:]}")
    return counts, errors


if __name__ == "__main__":
    main()
