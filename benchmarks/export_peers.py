"""Files of this library against those of other exporters, run in turns on one thread.

    KERAS_BACKEND=tensorflow python benchmarks/export_peers.py

Needs `pip install onnx onnxruntime tf2onnx openvino` and the extra `[tfmot]`. Six networks, 90% of
whose weights are zero, are written by every exporter and run in turns by its runtime. An
interrupted run is resumed.

What it should show: the smallest file is always ours (8-bit weights), and in float32 ours is as
small as any other; ours runs as fast as the dense file in the same runtime. Where another runtime
is faster, it is so with dense weights too. Masks of blocks (`pattern="4x1"`) make networks of dense
layers faster.
"""

import argparse
import functools
import statistics
import tempfile
import time

import export_models
import keras
import numpy as np
import peer_files as files
import record

from tf_lottery.export.child_process import TASKS, ChildProcess

SPARSITY, NUM_SAMPLES, SEED = 0.9, 4, 1
# Every runner runs at least so often, and more often within the seconds of a network.
MIN_ROUNDS, MAX_ROUNDS, SECONDS = 20, 400, 10
PACKAGES = ("ai-edge-litert", "onnx", "onnxruntime", "openvino", "tf2onnx", "tf_keras")
PACKAGES += ("tensorflow-model-optimization",)


def mlp():
    """Three dense layers of 1024 units."""
    x = inputs = keras.Input((1024,))
    for _ in range(3):
        x = keras.layers.Dense(1024, "relu")(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x), name="mlp")


NETWORKS = {
    "mlp": mlp,
    "lenet": export_models.lenet,
    "vgg": export_models.vgg,
    "mobilenet": export_models.mobilenet,
    "lstm": export_models.lstm,
    "transformer": export_models.transformer,
}


def main():
    """Measures every network that is not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    args = parser.parse_args()
    found = _recorded()
    for network in args.networks:
        if network not in found:
            found[network] = run_network(NETWORKS[network])
            settings = {"sparsity": SPARSITY, "samples": NUM_SAMPLES, "seed": SEED, "threads": 1}
            found = {name: found[name] for name in NETWORKS if name in found}
            record.write("export_peers", settings, found, packages=PACKAGES)
            print(network, *found[network], sep="\n", flush=True)


def _recorded():
    try:
        return record.read("export_peers")["results"]
    except FileNotFoundError:
        return {}


def run_network(build):
    """Returns a row for every file of a network: bytes, microseconds and the difference."""
    model = export_models.pruned(build, SPARSITY)
    blocks = export_models.pruned(build, SPARSITY, pattern="4x1")
    samples = export_models.example_inputs(model, NUM_SAMPLES, SEED)
    rows, runners = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in cases(model, blocks, samples, folder).items():
            row = {"name": name}
            rows.append(row)
            try:
                path, runner = make()
                network = blocks if "4x1" in name else model
                row |= {"num_bytes": files.num_bytes(path)}
                row |= {"difference": difference(runner, network, samples)}
                runners[name] = runner
            except Exception as error:  # Exporters and runtimes fail in ways of their own.
                row["refused"] = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        times = measure(runners, samples[:1])
    return [{**row, "microseconds": times.get(row["name"])} for row in rows]


def cases(model, blocks, samples, folder):
    """Returns a dict of names to functions that make a file and a function that runs it."""

    def ours(name, network=model, **options):
        path = files.ours(network, samples, folder, name, **options)
        return path, files.run_litert(path)

    def stock(name, *optimizations):
        path = files.stock(model, samples, folder, name, *optimizations)
        _check_that_it_runs(path)
        return path, files.run_litert(path)

    def tfmot():
        path = files.tfmot(model, folder, "tfmot")
        _check_that_it_runs(path)
        return path, files.run_litert(path)

    def onnx():
        path = files.onnx(model, samples, folder, "float")
        return path, files.run_onnx(path)

    def onnx_int8():
        path = files.onnx_int8(files.onnx(model, samples, folder, "for_int8"))
        return path, files.run_onnx(path)

    def openvino(**options):
        path = files.openvino(model, samples, folder, "openvino")
        return path, files.run_openvino(path, **options)

    def portable():
        path = files.ours(model, samples, folder, "portable", runtime="portable")
        return path, files.run_openvino(path)

    partial = functools.partial
    return {
        "dense, LiteRT": partial(ours, "dense", storage="dense"),
        "ours": partial(ours, "ours"),
        "ours, 8-bit weights": partial(ours, "ours_weight_int8", quantize="weight_int8"),
        "ours, dynamic int8": partial(ours, "ours_dynamic_int8", quantize="dynamic_int8"),
        "ours, 4x1 masks, for latency": partial(ours, "blocks", blocks, optimize_for="latency"),
        "stock converter": partial(stock, "stock"),
        "stock converter, sparsity": partial(stock, "stock_sparse", "EXPERIMENTAL_SPARSITY"),
        "stock converter, dynamic int8": partial(stock, "stock_int8", "DEFAULT"),
        "stock converter, dynamic int8, sparsity": partial(
            stock, "stock_int8_sparse", "DEFAULT", "EXPERIMENTAL_SPARSITY"
        ),
        "TFMOT, sparsity": tfmot,
        "ONNX Runtime": onnx,
        "ONNX Runtime, dynamic int8": onnx_int8,
        "OpenVINO": openvino,
        "OpenVINO, sparse decompression": partial(
            openvino, CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE=0.5
        ),
        "ours, portable, in OpenVINO": portable,
    }


def _check_that_it_runs(path):
    """Raises a `ChildError` if a file crashes its interpreter, which some do."""
    with ChildProcess(TASKS / "interpret.py") as child:
        child.call("run_random", content=path.read_bytes(), resolver="default")


def difference(run, model, samples):
    """Returns the largest difference from Keras as a fraction of the largest output."""
    expected = keras.ops.convert_to_numpy(model(samples, training=False))
    found = np.concatenate([np.reshape(run(x[None]), (1, -1)) for x in samples])
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def measure(runners, x):
    """Returns the median microseconds of a run. All run in turns."""
    times, rng = {name: [] for name in runners}, np.random.default_rng(SEED)
    end = time.perf_counter() + SECONDS
    for round_ in range(MAX_ROUNDS):
        if round_ >= MIN_ROUNDS and time.perf_counter() > end:
            break
        # In another order each round, since each runner leaves caches behind for the next.
        for name in rng.permutation(list(runners)):
            run = runners[name]
            start = time.perf_counter()
            run(x)
            times[name].append(time.perf_counter() - start)
    # The first runs fill caches.
    return {name: 1e6 * statistics.median(values[3:]) for name, values in times.items()}


if __name__ == "__main__":
    main()
