"""What gates cost per training step here and in PQuantML, a library that swaps layers for its own.

    python -m venv peer && peer/bin/pip install "pquant-ml[tensorflow]==0.1.0"
    python benchmarks/peer_step_cost.py --peer peer/bin/python
    python benchmarks/peer_step_cost.py --peer peer/bin/python --jit

Run it on an idle machine, in the environment of `tf_lottery`. PQuantML needs other versions of
other packages, so each library has a process in its own environment. The two processes take turns,
pair by pair: a pair trains the plain Keras model and then the one with gates, and the ratios are
medians over the pairs. LeNet-300-100, Continuous Sparsification, Adam, batch 60, TensorFlow, on one
batch that is repeated. In PQuantML, quantization is off.

What it should show: a step with gates, in times of the plain step of the same environment, takes
less than in PQuantML.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

BATCH_SIZE, STEPS, PAIRS = 60, 50, 30
PEER = "pquant-ml"


def lenet_300_100():
    """Returns LeNet-300-100."""
    import keras

    inputs = keras.Input((784,))
    x = keras.layers.Dense(300, "relu")(inputs)
    x = keras.layers.Dense(100, "relu")(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def gated_here(model):
    """Returns the model with the gates of `tf_lottery`."""
    import tf_lottery as tfl

    return tfl.sparsify(model, gate=tfl.SoftGate(penalty=1e-9))


def gated_in_peer(model):
    """Returns the model with PQuantML's layers, in the stage that trains the gates."""
    import pquant

    config = pquant.cs_config()
    config.quantization_parameters.enable_quantization = False
    gated = pquant.add_compression_layers(model, config, (BATCH_SIZE, 784))
    pquant.layers.post_pretrain_functions(gated, config)
    return gated


GATED = {"tf_lottery": gated_here, PEER: gated_in_peer}


def make_timers(name, jit):
    """Returns functions that return the milliseconds of a step, one for each model."""
    import keras
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    batch = rng.random((BATCH_SIZE, 784), dtype="float32"), rng.integers(0, 10, BATCH_SIZE)
    data = tf.data.Dataset.from_tensors(batch).cache().repeat()

    def timer(model):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(), loss, jit_compile=jit)

        def run():
            start = time.perf_counter()
            model.fit(data, epochs=1, steps_per_epoch=STEPS, verbose=0)
            return (time.perf_counter() - start) / STEPS * 1e3

        run()
        return run

    return {"plain": timer(lenet_300_100()), "gated": timer(GATED[name](lenet_300_100()))}


def serve(name, jit):
    """Measures a pair for every line of the standard input, and writes it as a line."""
    # Libraries may print there too.
    with contextlib.redirect_stdout(sys.stderr):
        timers = make_timers(name, jit)
    import importlib.metadata

    packages = ("keras", "tensorflow", *([PEER] if name == PEER else []))
    versions = {package: importlib.metadata.version(package) for package in packages}
    print(json.dumps(versions), flush=True)
    for _ in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            pair = {kind: run() for kind, run in timers.items()}
        print(json.dumps(pair), flush=True)


class Worker:
    """A process that measures one library in an environment of its own."""

    def __init__(self, python, name, jit):
        command = [python, __file__, "--serve", name, *(["--jit"] if jit else [])]
        variables = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=variables, **pipes)
        self.versions = json.loads(self.process.stdout.readline())

    def measure(self):
        """Returns the milliseconds of a step of the plain and of the gated model."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        """Ends the process."""
        self.process.communicate()


def main():
    """Measures both libraries in turns and records the medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer", help="the Python of the environment with PQuantML")
    parser.add_argument("--jit", action="store_true", help="compile with XLA")
    parser.add_argument("--serve", choices=GATED, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.jit)
        return
    if args.peer is None:
        parser.error("--peer is needed: the Python of the environment with PQuantML")
    import record

    pythons = {"tf_lottery": sys.executable, PEER: str(pathlib.Path(args.peer).absolute())}
    workers = {name: Worker(python, name, args.jit) for name, python in pythons.items()}
    rounds = [{name: worker.measure() for name, worker in workers.items()} for _ in range(PAIRS)]
    results = {}
    for name, worker in workers.items():
        worker.close()
        pairs = [measured[name] for measured in rounds]
        ratios = [pair["gated"] / pair["plain"] for pair in pairs]
        results[name] = {
            "plain_ms": statistics.median(pair["plain"] for pair in pairs),
            "gated_ms": statistics.median(pair["gated"] for pair in pairs),
            "ratio": statistics.median(ratios),
            "ratio_quartiles": statistics.quantiles(ratios)[::2],
            "versions": worker.versions,
        }
        print(name, results[name])
    sizes = {"batch_size": BATCH_SIZE, "steps": STEPS, "pairs": PAIRS}
    name = f"peer_step_cost_tensorflow{'_jit' if args.jit else ''}"
    record.write(name, {**sizes, "jit_compile": args.jit, "seed": 0}, results)


if __name__ == "__main__":
    main()
