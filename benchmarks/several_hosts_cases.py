"""Trains tiny models with every method, alone or as one of several JAX processes.

    python benchmarks/several_hosts_cases.py OUT one
    python benchmarks/several_hosts_cases.py OUT data ADDRESS COUNT INDEX
    python benchmarks/several_hosts_cases.py OUT model ADDRESS COUNT INDEX

`data` spreads every batch over the processes, `model` also the kernels: over all devices of one or
two processes, over two halves of more. Every process writes masks and weights into
`OUT/CASE.INDEX.npz`. `several_hosts.py` and the tests start it.
"""

import argparse
import contextlib
import functools
import pathlib
import sys
import unittest.mock

import keras
import numpy as np

BATCHES, BATCH_SIZE, CLASSES = 4, 16, 4
SHAPES = {"dense": (8,), "images": (4, 4, 2)}


def set_up(kind, address, count, index):
    """Joins the other processes, and distributes what is made from now on.

    Returns:
        Index of the share of every batch that this process trains on, and the number of shares.
    """
    if kind == "one":
        return 0, 1
    if count > 1:
        import jax

        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(address, num_processes=count, process_id=index)
    # Every process passes its own share of the data, which Keras must not divide again.
    if kind == "data":
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=False)
        )
        return index, count
    devices = len(keras.distribution.list_devices())
    rows = 2 if count > 2 else 1
    mesh = keras.distribution.DeviceMesh((rows, devices // rows), ["batch", "model"])
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*(hidden|output)/kernel"] = (None, "model")
    layouts[".*hidden/bias"] = ("model",)
    layouts[".*conv.*/kernel"] = (None, None, None, "model")
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(
            layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
        )
    )
    return index * rows // count, rows


class Bench:
    """What the cases train with.

    Args:
        folder: Path, where a case that resumes keeps its files.
        share: Integer, the share of every batch that this process has.
        shares: Integer, their number.
    """

    def __init__(self, folder, share=0, shares=1):
        self.folder, self.share, self.shares = folder, share, shares

    def data(self, shape):
        """Returns all examples, the same in all processes."""
        rng = np.random.default_rng(0)
        size = BATCHES * BATCH_SIZE
        return rng.normal(size=(size, *shape)).astype("float32"), rng.integers(0, CLASSES, size)

    def network(self, kind="dense"):
        """Returns a plain model with the same weights in all processes."""
        # Compiling random initializers would take longer than the training.
        zeros = {"kernel_initializer": "zeros"}
        layers = [
            keras.layers.Dense(32, "relu", name="hidden", **zeros),
            keras.layers.Dense(CLASSES, name="output", **zeros),
        ]
        if kind == "images":
            convs = [
                keras.layers.Conv2D(8, 3, padding="same", activation="relu", name=name, **zeros)
                for name in ("conv_1", "conv_2")
            ]
            layers = [*convs, keras.layers.Flatten(), *layers]
        model = keras.Sequential([keras.Input(SHAPES[kind]), *layers], name="net")
        rng = np.random.default_rng(1)
        for weight in model.weights:
            weight.assign(rng.normal(size=weight.shape, scale=0.3))
        return model

    def fit(self, sparse, callbacks=(), epochs=3, kind="dense", loss=None):
        """Trains on this process's share of every batch."""
        loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        sparse.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
        x, y = (
            a.reshape(BATCHES, self.shares, -1, *a.shape[1:])[:, self.share].reshape(
                -1, *a.shape[1:]
            )
            for a in self.data(SHAPES[kind])
        )
        sparse.fit(
            x,
            y,
            batch_size=BATCH_SIZE // self.shares,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
        )
        return sparse


def static(bench):
    return bench.fit(random_masks(bench))


def random_masks(bench):
    import tf_lottery as tfl

    return tfl.sparsify(bench.network(), 0.6, scores="random")


def dynamic(bench, name):
    import tf_lottery as tfl
    from tf_lottery.experiments.checkpoint import Checkpoint

    method = getattr(tfl.callbacks, name)(frequency=2, drop_fraction=0.4, end_step=11)
    return bench.fit(random_masks(bench), [Checkpoint(bench.folder / "training.npz"), method])


def gradual(bench):
    import tf_lottery as tfl

    pruning = tfl.callbacks.GradualMagnitudePruning(0.8, frequency=2, scope="global")
    return bench.fit(tfl.sparsify(bench.network()), [pruning])


def iterative(bench):
    import tf_lottery as tfl

    search = tfl.callbacks.IterativeMagnitudePruning(
        2, 1, rate=0.5, rewind_to_step=2, directory=bench.folder, verbose=0
    )
    return bench.fit(tfl.sparsify(bench.network()), [search], search.epochs)


def soft_gates(bench):
    import tf_lottery as tfl

    search = tfl.callbacks.ContinuousSparsification(2, 2, directory=bench.folder, verbose=0)
    sparse = tfl.sparsify(bench.network(), gate=tfl.SoftGate(0.05, penalty=1e-3))
    return bench.fit(sparse, [search], 8)


def retraining(bench):
    import tf_lottery as tfl

    sparse = tfl.sparsify(bench.network("images"), 0.6)
    batch = tuple(array[:BATCH_SIZE] for array in bench.data(SHAPES["images"]))
    tweaks = ("soft_activations", "ghost_skips", "rescaled_initialization", "label_smoothing")
    sparse.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    recipe = tfl.retrain.recipe(sparse, 3 * BATCHES, [batch], tweaks=tweaks)
    return bench.fit(sparse, recipe.callbacks, kind="images", loss=recipe.loss)


def at_init(bench, name):
    import tf_lottery as tfl

    sparse = tfl.sparsify(bench.network())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    prune = getattr(tfl.at_init, name)
    if name == "synflow":
        prune(sparse, 0.6, scope="global", rounds=5)
    else:
        prune(sparse, bench.data(SHAPES["dense"]), 0.6, scope="global", loss=loss)
    return bench.fit(sparse)


CASES = {
    "static": static,
    "RigL": functools.partial(dynamic, name="RigL"),
    "SET": functools.partial(dynamic, name="SET"),
    "SNFS": functools.partial(dynamic, name="SNFS"),
    "gradual pruning": gradual,
    "IMP": iterative,
    "CS": soft_gates,
    "retraining": retraining,
    "SNIP": functools.partial(at_init, name="snip"),
    "GraSP": functools.partial(at_init, name="grasp"),
    "SynFlow": functools.partial(at_init, name="synflow"),
}


def parts_with_other_layouts(sparse):
    """Returns the paths of masks, gates and growth's variables that lie not as their kernels."""
    found = []
    for part in sparse.parts:
        for names in ("masks", "gates", "explored", "gradients"):
            variables = getattr(part, names, ())
            for variable, kernel in zip(variables, sparse.kernels.values(), strict=False):
                one, other = variable.value.sharding, kernel.value.sharding
                if not one.is_equivalent_to(other, len(kernel.shape)):
                    found.append(variable.path)
    return found


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("kind", choices=["one", "data", "model"])
    parser.add_argument("address", nargs="?")
    parser.add_argument("count", nargs="?", type=int, default=1)
    parser.add_argument("index", nargs="?", type=int, default=0)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    return parser.parse_args()


def run(args):
    """Joins the other processes, trains, and writes what each case ends with.

    Returns:
        The sparse model of the last case.
    """
    share, shares = set_up(args.kind, args.address, args.count, args.index)
    for case in args.cases:
        folder = folder_of(args.out, case)
        folder.mkdir(parents=True, exist_ok=True)
        with counted_writes() as writes:
            sparse = CASES[case](Bench(folder, share, shares))
        arrays = {
            "writes": np.array(len(writes)),
            "other_layouts": np.array(parts_with_other_layouts(sparse), str),
            **{f"mask_{i}": mask for i, mask in enumerate(sparse.get_masks().values())},
            **{f"kernel_{i}": kernel for i, kernel in enumerate(sparse.get_kernels().values())},
        }
        np.savez(f"{folder}.{args.index}.npz", **arrays)
        print(case, sparse.density, flush=True)
    return sparse


def folder_of(out, case):
    """Returns the folder of a case. Results of the processes lie beside it."""
    return out / case.replace(" ", "_")


@contextlib.contextmanager
def counted_writes():
    """Yields a list that gets the files that this process writes."""
    from tf_lottery import files

    save_arrays, written = files.save_arrays, []

    def save_and_count(path, *args):
        written.append(path)
        save_arrays(path, *args)

    with unittest.mock.patch.object(files, "save_arrays", save_and_count):
        yield written


def leave(args):
    """Waits for the other processes, since the first one is the coordinator of all."""
    if args.count > 1:
        import jax

        jax.distributed.shutdown()


if __name__ == "__main__":
    # Keras would import it only to set its seed, which takes longer than many of the trainings.
    sys.modules["tensorflow"] = None
    given = arguments()
    run(given)
    leave(given)
