"""Gradual pruning here and in TensorFlow's Model Optimization Toolkit (TFMOT), the same schedule.

    pip install "tf_lottery[tfmot]"
    KERAS_BACKEND=tensorflow python benchmarks/peer_gradual.py --data-dir DIR [--peer PYTHON]

TFMOT prunes networks of `tf_keras`, in a process of its own, and needs no `tf_lottery`: `--peer` is
the Python of its environment, by default this one. LeNet-300-100 on MNIST for five epochs of 916
steps, and Conv-4 at a quarter of its width with batch normalization on CIFAR-10 at 16 pixels for
2,000 steps; 90% and 95% zeros in all kernels. Adam 1.2e-3 and batch 60, the cubic schedule with the
same first step, last step and frequency, and the same initial weights, batches and test images.

TFMOT ranks the weights of each kernel by themselves. Ours does so too for the first comparison, and
ranks all weights together, which is the default of `tf-lottery train`, for the second.

The claim, stated before the runs: with either ranking the mean accuracy of seeds 0 to 2 is level
with TFMOT's or above it: the mean difference seed by seed is not below zero by more than two of its
standard errors.

A killed run is resumed when it is started again, and several processes share the work; see
`sharing.py`.
"""

import argparse
import functools
import pathlib
import sys

import peer_process
import sharing

PEER = "tensorflow-model-optimization"
SEEDS = range(3)
SPARSITIES = (0.95, 0.9)
BATCH_SIZE, LEARNING_RATE = 60, 1.2e-3
# Data, epochs, steps of an epoch.
NETWORKS = {"lenet-300-100": ("mnist", 5, 916), "conv-4-norms-small": ("cifar10", 1, 2000)}
METHODS = ("tfmot", "gmp_by_kernel", "gmp")
PAIRS = (("gmp_by_kernel", "tfmot"), ("gmp", "tfmot"))


def lenet_300_100(k):
    """Returns LeNet-300-100 in the Keras module `k`."""
    dense = k.layers.Dense
    layers = [k.Input((28, 28, 1)), k.layers.Flatten(), dense(300, "relu"), dense(100, "relu")]
    return k.Sequential([*layers, dense(10)])


def conv_4(k):
    """Returns Conv-4 with batch normalization, at a quarter of its width, in `k`."""

    def hidden(layer, size, **kwargs):
        norm = k.layers.BatchNormalization()
        return [layer(size, use_bias=False, **kwargs), norm, k.layers.ReLU()]

    layers = [k.Input((16, 16, 3))]
    for filters in (16, 32):
        for _ in range(2):
            layers += hidden(k.layers.Conv2D, filters, kernel_size=3, padding="same")
        layers.append(k.layers.MaxPooling2D(2))
    layers.append(k.layers.Flatten())
    for _ in range(2):
        layers += hidden(k.layers.Dense, 64)
    return k.Sequential([*layers, k.layers.Dense(10)])


BUILDERS = {"lenet-300-100": lenet_300_100, "conv-4-norms-small": conv_4}


def train_peer(inputs, network, sparsity, epochs, steps, schedule):
    """Prunes gradually in TFMOT; returns the density and accuracy of the stripped network.

    Args:
        inputs: `peer_process.Inputs`.
        network: String, a key of `NETWORKS`.
        sparsity: Float in (0, 1), at the end.
        epochs: Integer.
        steps: Integer, of an epoch.
        schedule: Dict of `begin_step`, `end_step` and `frequency`.
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras

    pruning = tfmot.sparsity.keras
    model = BUILDERS[network](tf_keras)
    inputs.start(model)
    polynomial = pruning.PolynomialDecay(0.0, sparsity, power=3, **schedule)
    pruned = _compiled(pruning.prune_low_magnitude(model, polynomial), tf_keras)
    pruned.fit(
        inputs.batches(),
        epochs=epochs,
        steps_per_epoch=steps,
        shuffle=False,
        callbacks=[pruning.UpdatePruningStep()],
        verbose=0,
    )
    stripped = _compiled(pruning.strip_pruning(pruned), tf_keras)
    kernels = [layer.kernel for layer in stripped.layers if hasattr(layer, "kernel")]
    return peer_process.outcome(stripped, kernels, inputs)


def _compiled(model, k):
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(k.optimizers.Adam(LEARNING_RATE), loss, metrics=["accuracy"])
    return model


def make_schedule(num_steps):
    """Returns the steps of the first and the last update, and those between two.

    Args:
        num_steps: Integer, of the whole training.
    """
    begin, frequency = num_steps // 10, max(1, num_steps // 100)
    # TFMOT has no update at the last step unless it is a multiple of the frequency away.
    updates = (3 * num_steps // 4 - begin) // frequency
    return {"begin_step": begin, "end_step": begin + updates * frequency, "frequency": frequency}


def make_settings(network, method, sparsity, steps):
    """Returns our settings, with the same schedule.

    Args:
        network: String, a key of `NETWORKS`.
        method: String, of `METHODS`.
        sparsity: Float in (0, 1), at the end.
        steps: Integer, of an epoch.
    """
    from tf_lottery.experiments.training import TrainSettings

    epochs = NETWORKS[network][1]
    # It begins after a tenth of the training, as `make_schedule` does.
    schedule = make_schedule(epochs * steps)
    return TrainSettings(
        "gmp",
        network,
        sparsity,
        epochs=epochs,
        steps_per_epoch=steps,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        scope="global" if method == "gmp" else "layer",
        frequency=schedule["frequency"],
        end_step=schedule["end_step"],
    )


def make_cells():
    """Returns pairs of a `Case` and a seed for every network."""
    from comparison import Case

    return [
        (Case(method, sparsity), seed)
        for sparsity in SPARSITIES
        for seed in SEEDS
        for method in METHODS
    ]


def load(network, data_dir):
    """Returns the `Data` of a network."""
    from tf_lottery.experiments import data

    name = NETWORKS[network][0]
    found = data.load(name, data_dir)
    return found.resized(16).normalized() if name == "cifar10" else found


def make_jobs(network, arrays, python, steps):
    """Returns the trainings of a network as `sharing.Job`.

    Args:
        network: String, a key of `NETWORKS`.
        arrays: Function that returns its `Data`.
        python: String, the Python of the environment with TFMOT.
        steps: Integer, of an epoch.
    """
    import peer_trainings
    from comparison import cell_name

    from tf_lottery.experiments.training import run_training

    def job(case, seed):
        settings = make_settings(network, case.method, case.sparsity, steps)
        how = {"network": network, "sparsity": case.sparsity, "epochs": settings.epochs}
        how |= {"steps": steps, "schedule": make_schedule(settings.epochs * steps)}

        def train(directory):
            if case.method == "tfmot":
                peer_trainings.run_peer(python, __file__, directory, how, arrays(), settings, seed)
            else:
                run_training(arrays(), settings, directory, seed, verbose=0)

        return sharing.Job(f"{network}_{cell_name(case, seed)}", train)

    return [job(*cell) for cell in make_cells()]


def write_record(name, folder, steps):
    """Records all trainings that have ended.

    Args:
        name: String, the file of the results.
        folder: Path of the folder of runs.
        steps: Dict of the steps of an epoch of every network.
    """
    import peer_trainings
    import record

    results, recorded = {}, {"seeds": list(SEEDS), "networks": {}}
    for network in NETWORKS:
        rows, versions = peer_trainings.read_rows(folder, make_cells(), f"{network}_")
        if rows:
            settings = make_settings(network, "gmp", 0.9, steps[network])
            schedule = make_schedule(settings.epochs * steps[network])
            recorded["networks"][network] = {"here": settings.to_dict(), "schedule": schedule}
            recorded["versions_of_peer"] = versions or recorded.get("versions_of_peer", {})
            results[network] = peer_trainings.compare(rows, PAIRS)
    record.write(name, recorded, results)


def main():
    """Makes the trainings that are left, or serves one in the other environment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sharing.add_arguments(parser, "peer_gradual")
    parser.add_argument("--peer", default=sys.executable, help="the Python with TFMOT")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--steps", type=int, help="of an epoch, of every network")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        packages = (PEER, "tf_keras", "tensorflow", "numpy")
        peer_process.serve(args.serve, train_peer, packages)
        return
    folder, python = pathlib.Path(args.runs_dir), str(pathlib.Path(args.peer).absolute())
    steps = {network: args.steps or NETWORKS[network][2] for network in NETWORKS}
    jobs = []
    for network in args.networks:
        arrays = functools.cache(functools.partial(load, network, args.data_dir))
        jobs += make_jobs(network, arrays, python, steps[network])
    write = functools.partial(write_record, args.record, folder, steps)
    sharing.share(jobs, folder, write, args.trainings)


if __name__ == "__main__":
    main()
