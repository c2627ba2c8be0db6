"""What half of the channels saves in time: TFLite files on one thread, and Keras training steps.

    KERAS_BACKEND=tensorflow python benchmarks/channel_latency.py --files FOLDER --make
    KERAS_BACKEND=tensorflow python benchmarks/channel_latency.py --files FOLDER [files]
    KERAS_BACKEND=tensorflow python benchmarks/channel_latency.py --files FOLDER NETWORK

ResNet-20 (32 px) and MobileNetV2 (96 px) with half of the channels of every group pruned and
compacted, in widths of any size and in multiples of 8. `--make` only makes the files. `files`
times all files in one run: float32, default interpreter, one thread, 200 rounds in which the files
take turns, five times; ratios are medians of the five. The name of a network times its training
steps: the dense network, the one with masks and the compacted one train in turns on one batch,
with Adam, without XLA. Run the timings on an idle machine.

What it should show: the files of compacted networks take at most 0.45 of the dense files' time,
and a training step after compaction takes less than a dense one. A step with masks takes more.
"""

import argparse
import pathlib
import statistics

import channel_groups
import channel_networks
import export_models
import keras
import numpy as np
import record
import step_cost
from ai_edge_litert.interpreter import Interpreter

import tf_lottery as tfl
from tf_lottery.export.child_process import TASKS, ChildProcess

NETWORKS = ("resnet_20", "MobileNetV2")
PATTERNS = {"compacted": "channel", "compacted_8": "channel:8"}
REPEATS, RUNS = 5, 200
# Batch size, steps of a timed run, how often all networks take turns.
STEPS = {"resnet_20": (64, 4, 9), "MobileNetV2": (32, 1, 7)}


def build(name):
    """Returns a dense network with norms as after training."""
    keras.utils.set_random_seed(0)
    model = channel_networks.NETWORKS[name]()
    channel_groups.train_norms(model, np.random.default_rng(0))
    return model


def prune(name, pattern="channel"):
    """Returns a network with masks on half of the channels of every group."""
    sparse = tfl.sparsify(build(name), pattern=pattern)
    tfl.prune(sparse, channel_groups.SPARSITY, scores="l1")
    return sparse


def networks(name):
    """Yields names of the plain networks of a file each, and the networks."""
    yield "dense", build(name)
    for variant, pattern in PATTERNS.items():
        yield variant, tfl.compact(prune(name, pattern))[0]


def make_files(folder):
    """Makes the TFLite files that are not there yet."""
    export_models.keep_processes()
    folder.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        if all(_path(folder, name, variant).exists() for variant in ("dense", *PATTERNS)):
            continue
        for variant, model in networks(name):
            samples = export_models.example_inputs(model, 2, seed=1)
            path = _path(folder, name, variant)
            tfl.export_tflite(model, path, samples, storage="dense", runs=1)


def _path(folder, name, variant):
    return folder / f"{name}_{variant}.tflite"


def measure_files(folder):
    """Returns bytes, milliseconds and ratios to the dense file, for every network."""
    results = {}
    with ChildProcess(TASKS / "interpret.py") as child:
        for name in NETWORKS:
            contents = {
                variant: _path(folder, name, variant).read_bytes()
                for variant in ("dense", *PATTERNS)
            }
            size = 32 if name == "resnet_20" else channel_networks.APPLICATIONS[name]
            images = np.random.default_rng(1).normal(size=(1, size, size, 3)).astype("float32")
            step = {_input_name(contents["dense"]): images}
            times = [
                child.call("measure", contents=contents, step=step, runs=RUNS)
                for _ in range(REPEATS)
            ]
            results[name] = {
                "bytes": {variant: len(content) for variant, content in contents.items()},
                **_medians(times),
            }
    return results


def _input_name(content):
    [signature] = Interpreter(model_content=content).get_signature_list().values()
    return signature["inputs"][0]


def measure_steps(name):
    """Returns the milliseconds of a training step, and ratios to the dense network's."""
    batch_size, steps, repeats = STEPS[name]
    masked = prune(name)
    models = {"dense": build(name), "masked": masked, "compacted": tfl.compact(masked)[0]}
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch_size, *models["dense"].input_shape[1:])).astype("float32")
    batches = step_cost.repeated((images, rng.integers(0, 10, batch_size)), steps)
    timers = {
        variant: step_cost.timer(keras, model, batches, steps, jit_compile=False)
        for variant, model in models.items()
    }
    times = [{variant: run() for variant, run in timers.items()} for _ in range(repeats)]
    return {"batch_size": batch_size, **_medians(times)}


def _medians(times):
    """Returns medians of milliseconds and of ratios to the dense network of the same round."""
    ratios = {name: [time[name] / time["dense"] for time in times] for name in times[0]}
    return {
        "ms": {name: statistics.median(time[name] for time in times) for name in times[0]},
        "ratio": {name: statistics.median(found) for name, found in ratios.items()},
        "ratios": ratios,
    }


def main():
    """Makes the files, and measures and records what is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("measured", nargs="?", choices=["files", *NETWORKS], default="files")
    parser.add_argument("--files", type=pathlib.Path, default="runs/channel_latency")
    parser.add_argument("--make", action="store_true", help="only make the files")
    arguments = parser.parse_args()
    if arguments.measured == "files":
        make_files(arguments.files)
    if arguments.make:
        return
    try:
        results = record.read("channel_latency")["results"]
    except FileNotFoundError:
        results = {}
    if arguments.measured == "files":
        results["files"] = measure_files(arguments.files)
    else:
        found = measure_steps(arguments.measured)
        results["steps"] = {**results.get("steps", {}), arguments.measured: found}
    print(results, flush=True)
    settings = {
        "sparsity": channel_groups.SPARSITY,
        "repeats": REPEATS,
        "runs": RUNS,
        "steps": STEPS,
        "threads": 1,
    }
    record.write("channel_latency", settings, results)


if __name__ == "__main__":
    main()
