"""The trainings that `kills.py` kills: each works in an empty folder and can be started again.

They are tiny and train eagerly, so that a kill costs about a second; more if they start processes
of their own, which import TensorFlow. Every case writes its weights and masks into the folder, or
is a command of `tf-lottery` or its function, which does.
"""

import functools
import json

import keras
import numpy as np

import tf_lottery as tfl
import tf_lottery_cli
from tf_lottery import files
from tf_lottery.experiments import data, demo, models
from tf_lottery.experiments.batches import ShuffledBatches
from tf_lottery.experiments.checkpoint import Checkpoint
from tf_lottery.experiments.lottery import LotterySettings

EPOCHS = 4
# Three or four steps per epoch of LeNet-300-100 on 1,197 digits.
SHORT = ("--batch-size", "350", "--epochs", "2")


def data_of(shape):
    rng = np.random.default_rng(0)
    return rng.normal(size=(32, *shape)).astype("float32"), rng.integers(0, 3, 32)


def batches(shape):
    return ShuffledBatches(*data_of(shape), batch_size=8)


def small_model(shape=(8,)):
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(16, "relu", name="hidden"),
        keras.layers.Dense(3, name="output"),
    ]
    if len(shape) == 3:
        convs = [
            keras.layers.Conv2D(4, 3, padding="same", activation="relu", name=name)
            for name in ("conv_1", "conv_2")
        ]
        layers = [*convs, keras.layers.Flatten(), *layers]
    return keras.Sequential([keras.Input(shape), *layers], name="small")


def compiled(sparse, loss=None):
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sparse.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], run_eagerly=True)
    return sparse


def fit(sparse, folder, callbacks, epochs=EPOCHS, shape=(8,)):
    """Trains, and writes weights and masks."""
    shuffled = batches(shape)
    sparse.fit(
        shuffled,
        epochs=epochs,
        shuffle=False,
        callbacks=[shuffled.follow_epoch(), *callbacks],
        verbose=0,
    )
    weights = {f"weight_{i}": array for i, array in enumerate(sparse.get_weights())}
    masks = {f"mask_{i}": array for i, array in enumerate(sparse.get_masks().values())}
    files.save_arrays(folder / "outcome.npz", "outcome", {**weights, **masks}, {})


def imp(folder, rewind, rewind_to_step):
    search = tfl.callbacks.IterativeMagnitudePruning(
        2, 2, rewind=rewind, rewind_to_step=rewind_to_step, directory=folder / "search", verbose=0
    )
    fit(compiled(tfl.sparsify(small_model())), folder, [search], search.epochs)


def cs(folder, mode):
    search = tfl.callbacks.ContinuousSparsification(
        2, 2, mode=mode, directory=folder / "search", verbose=0
    )
    fit(compiled(tfl.sparsify(small_model(), gate=tfl.SoftGate(0.0))), folder, [search], 8)


def dynamic(folder, method, keep):
    sparse = tfl.sparsify(small_model(), 0.5, scores="random", seed=0)
    fit(compiled(sparse), folder, [keep(folder), method(frequency=2, end_step=14)])


def gradual(folder, keep):
    pruning = tfl.callbacks.GradualMagnitudePruning(0.8, frequency=2)
    fit(compiled(tfl.sparsify(small_model())), folder, [keep(folder), pruning])


def tweaks(folder):
    shape = (6, 6, 2)
    sparse = tfl.sparsify(small_model(shape), 0.5, scores="random", seed=0)
    chosen = ("soft_activations", "ghost_skips", "label_smoothing")
    recipe = tfl.retrain.recipe(sparse, 16, batches(shape), tweaks=chosen)
    callbacks = [Checkpoint(folder / "checkpoint.npz"), *recipe.callbacks]
    fit(compiled(sparse, recipe.loss), folder, callbacks, shape=shape)


def checkpoint(folder):
    return Checkpoint(folder / "checkpoint.npz")


def backup(folder):
    """Returns Keras' callback with the options that survive a kill while it writes weights."""
    return keras.callbacks.BackupAndRestore(
        folder / "backup", double_checkpoint=True, delete_checkpoint=False
    )


def command(folder, *arguments):
    code = tf_lottery_cli.main([str(argument) for argument in arguments])
    if code:
        raise RuntimeError(f"exit code {code}")


def train(folder, method):
    options = ("--levels", "2") if method == "imp" else ()
    command(folder, "train", "--method", method, *SHORT, *options, "--out", folder / "run")


def retrain(folder):
    path = folder / "ticket.npz"
    if not path.exists():
        sparse = tfl.sparsify(models.lenet_300_100((8, 8, 1), seed=0), 0.9)
        tfl.Ticket.from_model(sparse).save(path)
    out = ("--dataset", "digits", "--model", "lenet-300-100", "--out", folder / "run")
    command(folder, "retrain", path, "--tweaks", "soft-activation,label-smoothing", *SHORT, *out)


def stability(folder):
    starts = ("--dense", "shared", "--dense", "independent", "--rewind-to-step", "2")
    command(folder, "stability", *starts, "--points", "2", *SHORT, "--out", folder / "run")


def compress(folder):
    x, y = data_of((8,))
    model = small_model()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    tfl.compress(
        model,
        (x, y),
        (x, y),
        budget={"bytes": 3000},
        max_drop=0.0,
        finetune=1,
        structures=("unstructured",),
        sparsities=(0.5, 0.9),
        precisions=("float32", "int8"),
        runs=1,
        directory=folder / "run",
        verbose=0,
    )


def run_demo(folder):
    settings = LotterySettings(
        levels=2,
        epochs_per_level=1,
        steps_per_epoch=4,
        frequency=2,
        steps_per_execution=1,
        jit_compile=False,
    )
    demo.run_demo(data.load("digits"), settings, folder / "run", replicates=1)


def sweep(folder, jobs):
    spec = {"method": ["static", "rigl"], "sparsity": [0.8, 0.9], "epochs": 1, "batch_size": 350}
    path = folder / "spec.json"
    with files.atomic_path(path) as temporary:
        temporary.write_text(json.dumps(spec))
    command(folder, "sweep", path, "--out", folder / "runs", "--jobs", jobs)


def compare(folder):
    options = ("--methods", "dense,static", "--sparsity", "0.9", "--seeds", "1", "--epochs", "1")
    command(folder, "compare", *options, "--jobs", "1", "--quiet", "--out", folder / "runs")


CASES = {
    "imp, weights": functools.partial(imp, rewind="weights", rewind_to_step=3),
    "imp, learning rate": functools.partial(imp, rewind="learning_rate", rewind_to_step=0),
    "imp, no rewinding": functools.partial(imp, rewind="none", rewind_to_step=0),
    "cs, ticket": functools.partial(cs, mode="ticket"),
    "cs, prune": functools.partial(cs, mode="prune"),
    "rigl, Checkpoint": functools.partial(dynamic, method=tfl.callbacks.RigL, keep=checkpoint),
    "rigl, BackupAndRestore": functools.partial(dynamic, method=tfl.callbacks.RigL, keep=backup),
    "snfs, Checkpoint": functools.partial(dynamic, method=tfl.callbacks.SNFS, keep=checkpoint),
    "snfs, BackupAndRestore": functools.partial(dynamic, method=tfl.callbacks.SNFS, keep=backup),
    "gradual, Checkpoint": functools.partial(gradual, keep=checkpoint),
    "gradual, BackupAndRestore": functools.partial(gradual, keep=backup),
    "tweaks, Checkpoint": tweaks,
    "tf-lottery train, gmp": functools.partial(train, method="gmp"),
    "tf-lottery train, imp": functools.partial(train, method="imp"),
    "tf-lottery retrain": retrain,
    "tf-lottery sweep": functools.partial(sweep, jobs=1),
    "tf-lottery sweep, jobs": functools.partial(sweep, jobs=2),
    "tf-lottery compare": compare,
    "tf-lottery stability": stability,
    "compress": compress,
    "demo, full": run_demo,
}
# These start other processes or train several networks.
SLOW = ("tf-lottery sweep, jobs", "tf-lottery compare", "compress", "demo, full")
