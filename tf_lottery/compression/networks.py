"""Makes the networks of a compression from the trained one, which is left as it was."""

import contextlib
import warnings

import keras
import numpy as np

from tf_lottery._keras import all_layers
from tf_lottery._strip import strip
from tf_lottery.callbacks import GradualMagnitudePruning
from tf_lottery.compression.grid import DENSE
from tf_lottery.compression.one_shot import prune_in_one_step
from tf_lottery.experiments.batches import ShuffledBatches
from tf_lottery.experiments.run_folder import save_model
from tf_lottery.export import compact
from tf_lottery.pruning import sparsify

UPDATES = 100  # How often masks change in a training at most.


def make_network(task, network, path):
    """Makes a network and saves it as a plain model.

    Args:
        task: `Task`.
        network: `Network`, another than the dense one.
        path: Path of the `.keras` file.

    Raises:
        ValueError: If the model cannot be pruned in this way, or its training failed.
        OSError: If the file cannot be written.
    """
    with _sparse(task.model, network.structure) as sparse, warnings.catch_warnings():
        # What the warnings say, the measured accuracy shows.
        warnings.simplefilter("ignore")
        if network.finetuned:
            _finetune(task, network, sparse)
        else:
            _prune(task, network, sparse)
        if network.removes_channels:
            save_model(compact(sparse)[0], path)
        else:
            with sparse.settled() as plain:
                save_model(plain, path)


def load_network(task, network, path):
    """Returns a network that `make_network` has saved, or the dense one.

    Args:
        task: `Task`.
        network: `Network`.
        path: Path of the `.keras` file.

    Raises:
        ValueError: If it cannot be loaded.
    """
    if network.structure == DENSE:
        return task.model
    classes = {type(layer).__name__: type(layer) for layer in all_layers(task.model)}
    # `make_network` has written the file, into a folder that is locked: its code is the model's.
    return keras.saving.load_model(path, custom_objects=classes, compile=False, safe_mode=False)


@contextlib.contextmanager
def _sparse(model, pattern):
    """Yields a `SparseModel` of a plain model, all of which is as it was afterwards."""
    before = [(v, keras.ops.convert_to_numpy(v).copy()) for v in model.variables]
    sparse = sparsify(model, pattern=pattern)
    try:
        yield sparse
    finally:
        with contextlib.suppress(ValueError):
            strip(sparse)
        for variable, value in before:
            variable.assign(value)


def _prune(task, network, sparse):
    budget = None
    if network.removes_channels:
        budget = {task.channel_budget: 1.0 - network.sparsity}
    prune_in_one_step(sparse, task.calibration, network.sparsity, budget=budget)


def _finetune(task, network, sparse):
    """Trains further: weights are pruned meanwhile, channels before."""
    examples = task.train
    size = min(task.batch_size, len(examples))
    batches = ShuffledBatches(examples.x, examples.y, size, seed=task.seed)
    steps = task.finetune * len(batches)
    if network.removes_channels:
        _prune(task, network, sparse)
        pruning = []
    else:
        frequency = max(1, steps // UPDATES)
        pruning = [GradualMagnitudePruning(network.sparsity, frequency, scope="global")]
    # On a CPU, compiling with XLA would take longer than it saves.
    sparse.compile(task.new_optimizer(steps), loss=task.model.loss, jit_compile=False)
    callbacks = [*pruning, batches.follow_epoch()]
    history = sparse.fit(
        batches, epochs=task.finetune, shuffle=False, callbacks=callbacks, verbose=0
    )
    failures = [callback.failure for callback in pruning if callback.failure]
    if failures or not np.isfinite(history.history["loss"][-1]):
        raise ValueError(f"Training failed: {(failures or ['the loss is not finite'])[0]}")
