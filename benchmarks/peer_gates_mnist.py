"""Continuous Sparsification here and in PQuantML, LeNet-300-100 on MNIST, the same budget.

    python -m venv peer && peer/bin/pip install "pquant-ml[tensorflow]==0.1.0"
    python benchmarks/peer_gates_mnist.py --peer peer/bin/python --data-dir DIR

Both train on TensorFlow for 16 epochs of 916 steps: three rounds of four epochs, then four epochs
with the masks found, from the weights at the end of the second epoch. Adam 1.2e-3 for weights and
gates, batch 60, final temperature 200, and the same initial weights, batches and test images.
PQuantML has its own `cs_config`, with these lengths and without quantization. It raises the
temperature after every epoch; ours rises with every step.

PQuantML has no option for the density. It follows from the initial value of the gates,
`threshold_init`: 0.0 is its default, and the two others were chosen by the densities alone that
-0.1 and -0.3 reach with seed 3 (1.0% and 0.13%), before any accuracy was seen. Ours then trains to
exactly the density that PQuantML reached with the same seed.

The claim, stated before the runs: at each of the densities near 11.5%, 3.4% and 0.7% the mean
accuracy of seeds 0 to 2 is at least PQuantML's.

A killed run is resumed when it is started again, and several processes share the work; see
`sharing.py`.
"""

import argparse
import functools
import pathlib

import peer_process
import sharing

PEER = "pquant-ml"
SEEDS = range(3)
EPOCHS, ROUNDS, STEPS, BATCH_SIZE, LEARNING_RATE = 4, 3, 916, 60, 1.2e-3
# The sparsity that a density is named by, and the initial value of PQuantML's gates.
INITIAL_VALUES = {0.885: 0.0, 0.966: -0.04, 0.993: -0.12}


def lenet_300_100():
    """Returns LeNet-300-100 in Keras."""
    import keras

    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(300, "relu")(x)
    x = keras.layers.Dense(100, "relu")(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def train_peer(inputs, initial_value, steps):
    """Searches and retrains a ticket in PQuantML; returns its density and accuracy.

    Args:
        inputs: `peer_process.Inputs`.
        initial_value: Float, that of the gates.
        steps: Integer, of an epoch.
    """
    import keras
    import pquant
    from pquant.core.keras.train import PQuantCallback

    model = lenet_300_100()
    inputs.start(model)
    config = pquant.cs_config()
    config.quantization_parameters.enable_quantization = False
    config.pruning_parameters.threshold_init = initial_value
    config.training_parameters.epochs = EPOCHS
    config.training_parameters.rounds = ROUNDS
    config.training_parameters.fine_tuning_epochs = EPOCHS
    gated = pquant.add_compression_layers(model, config, (BATCH_SIZE, 28, 28, 1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    gated.compile(keras.optimizers.Adam(LEARNING_RATE), loss, metrics=["accuracy"])
    search = PQuantCallback(config, log_ebops=False, log_keep_ratio=False)
    gated.fit(
        inputs.batches(),
        epochs=search.total_epochs,
        steps_per_epoch=steps,
        shuffle=False,
        callbacks=[search],
        verbose=0,
    )
    kernels = [layer.kernel for layer in gated.layers if isinstance(layer, pquant.layers.PQDense)]
    return peer_process.outcome(gated, kernels, inputs)


def make_settings(steps, density=None):
    """Returns our settings, with the same budget.

    Args:
        steps: Integer, of an epoch.
        density: Float. Defaults to `None`: as it results.
    """
    from tf_lottery.experiments.training import TrainSettings

    return TrainSettings(
        "cs",
        "lenet-300-100",
        epochs=EPOCHS,
        rounds=ROUNDS,
        steps_per_epoch=steps,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        rewind_to_step=2 * steps,
        target_density=density,
        exact_density=None if density is None else True,
    )


def make_cells():
    """Returns pairs of a `Case` and a seed, the lowest density first."""
    from comparison import Case

    return [
        (Case(method, sparsity), seed)
        for sparsity in sorted(INITIAL_VALUES, reverse=True)
        for seed in SEEDS
        for method in (PEER, "cs")
    ]


def make_jobs(arrays, python, steps):
    """Returns the trainings as `sharing.Job`.

    Args:
        arrays: Function that returns `Data`.
        python: String, the Python of the environment with PQuantML.
        steps: Integer, of an epoch.
    """
    import peer_trainings
    from comparison import Case, cell_name

    from tf_lottery.experiments.run_folder import read_json
    from tf_lottery.experiments.training import run_training

    def job(case, seed):
        peer = cell_name(Case(PEER, case.sparsity), seed)

        def train_there(directory):
            how = {"initial_value": INITIAL_VALUES[case.sparsity], "steps": steps}
            settings = make_settings(steps)
            peer_trainings.run_peer(python, __file__, directory, how, arrays(), settings, seed)

        def train_here(directory):
            density = read_json(directory.parent / peer / "results.json")["density"]
            run_training(arrays(), make_settings(steps, density), directory, seed, verbose=0)

        if case.method == PEER:
            return sharing.Job(peer, train_there)
        return sharing.Job(cell_name(case, seed), train_here, (peer,))

    return [job(*cell) for cell in make_cells()]


def write_record(name, folder, steps):
    """Records all trainings that have ended.

    Args:
        name: String, the file of the results.
        folder: Path of the folder of runs.
        steps: Integer, of an epoch.
    """
    import peer_trainings
    import record

    rows, versions = peer_trainings.read_rows(folder, make_cells())
    recorded = {
        "dataset": "mnist",
        "here": make_settings(steps, 0.5).to_dict() | {"target_density": "that of the peer"},
        "peer": {"initial_values": INITIAL_VALUES, "versions": versions},
        "seeds": list(SEEDS),
    }
    record.write(name, recorded, peer_trainings.compare(rows, (("cs", PEER),)))


def main():
    """Makes the trainings that are left, or serves one in the other environment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sharing.add_arguments(parser, "peer_gates_mnist")
    parser.add_argument("--peer", help="the Python of the environment with PQuantML")
    parser.add_argument("--steps", type=int, default=STEPS, help="of an epoch")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        peer_process.serve(args.serve, train_peer, (PEER, "keras", "tensorflow", "numpy"))
        return
    if args.peer is None:
        parser.error("--peer is needed: the Python of the environment with PQuantML")
    from tf_lottery.experiments import data

    folder, python = pathlib.Path(args.runs_dir), str(pathlib.Path(args.peer).absolute())
    arrays = functools.cache(lambda: data.load("mnist", args.data_dir))
    jobs = make_jobs(arrays, python, args.steps)
    write = functools.partial(write_record, args.record, folder, args.steps)
    sharing.share(jobs, folder, write, args.trainings)


if __name__ == "__main__":
    main()
