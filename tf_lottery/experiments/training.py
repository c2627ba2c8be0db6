"""One training of a sparse network: iterative search or gradual pruning, resumable."""

import dataclasses
import math
import pathlib

import keras

from tf_lottery import callbacks
from tf_lottery.checks import choice
from tf_lottery.experiments import models
from tf_lottery.experiments.checkpoint import Checkpoint
from tf_lottery.experiments.data import ShuffledBatches
from tf_lottery.experiments.run_folder import (
    check_settings,
    read_json,
    remove_files,
    save_model,
    write_json,
)
from tf_lottery.model import sparsify, strip
from tf_lottery.sparsity import Polynomial
from tf_lottery.ticket import Ticket

METHODS = ("imp", "gmp")
MODELS = {"lenet-300-100": models.lenet_300_100, "resnet-20": models.resnet_20}
FILES = (
    "checkpoint.npz",
    "model.keras",
    "results.json",
    "search/search.npz",
    "search/ticket_*.npz",
    "settings.json",
    "ticket.npz",
)


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The hyperparameters of a training.

    Args:
        method: `"imp"`, iterative magnitude pruning with rewinding, or `"gmp"`, gradual
            magnitude pruning during one training.
        model: `"lenet-300-100"` or `"resnet-20"`.
        sparsity: Float in (0, 1), at the end.
        epochs: Integer, with `"imp"` of every level.
        levels: Integer, for `"imp"`. Every level prunes the same share of what is left.
        rewind: For `"imp"`; see `callbacks.IterativeMagnitudePruning`.
        rewind_to_step: Integer, for `"imp"`.
        scope: `"global"` or `"layer"`.
        batch_size: Integer.
        learning_rate: Float, of Adam.
    """

    method: str = "gmp"
    model: str = "lenet-300-100"
    sparsity: float = 0.9
    epochs: int = 10
    levels: int | None = None
    rewind: str = "weights"
    rewind_to_step: int = 0
    scope: str = "global"
    batch_size: int = 60
    learning_rate: float = 1.2e-3

    def __post_init__(self):
        choice("method", self.method, METHODS)
        choice("model", self.model, tuple(MODELS))
        if not 0 < self.sparsity < 1:
            raise ValueError(
                "Argument `sparsity` must be above 0 and below 1. "
                f"Received: sparsity={self.sparsity}"
            )

    @property
    def rate(self):
        """The share of the surviving weights that a level of `"imp"` prunes."""
        return 1.0 - (1.0 - self.sparsity) ** (1.0 / self.levels)


def levels_for(sparsity, rate):
    """Returns how many levels reach a sparsity if each prunes at most a share `rate`.

    Args:
        sparsity: Float in (0, 1).
        rate: Float in (0, 1).

    Example:

    >>> levels_for(sparsity=0.9, rate=0.2)
    11
    """
    return math.ceil(math.log(1.0 - sparsity) / math.log(1.0 - rate) - 1e-9)


def run_training(data, settings, directory, seed=0, verbose="auto"):
    """Trains a network, prunes it on the way and saves it.

    A run that was killed goes on from its last epoch when it is called again, and ends with
    the same weights.

    Args:
        data: `Data` of images.
        settings: `TrainSettings`.
        directory: Folder, made if it does not exist, for `model.keras`, the stripped
            network; `ticket.npz`, its masks with the weights to start from; `results.json`.
        seed: Integer, decides initial weights and order of the data. Defaults to `0`.
        verbose: As in `fit`. Defaults to `"auto"`.

    Returns:
        Dict of `settings`, `density`, `test_accuracy`, `test_loss` and `history`.

    Raises:
        ValueError: If an argument is outside its range, or `directory` holds a run with
            other arguments.
        OSError: If `directory` cannot be written.

    Example:

    >>> run_training(data.load("digits"), TrainSettings(sparsity=0.8), "runs/train")["density"]
    0.2
    """
    directory = pathlib.Path(directory)
    model = _compiled_model(data, settings, seed)
    x, y = data.train
    batches = ShuffledBatches(x, y, settings.batch_size, seed=seed)
    if settings.method == "imp":
        pruning, epochs = _imp(settings, directory, len(batches))
    else:
        pruning, epochs = _gmp(settings, directory, len(batches))
    all_settings = {"dataset": data.name, "seed": seed, **dataclasses.asdict(settings)}
    check_settings(directory, all_settings)
    if (directory / "results.json").exists():
        return read_json(directory / "results.json")
    model.fit(
        batches,
        epochs=epochs,
        shuffle=False,
        validation_data=data.validation,
        validation_batch_size=1000,
        callbacks=[batches.follow_epoch(), *pruning],
        verbose=verbose,
    )
    test = model.evaluate(*data.test, batch_size=1000, verbose=0, return_dict=True)
    save_model(strip(model), directory / "model.keras")
    ticket = pruning[-1].tickets[-1] if settings.method == "imp" else Ticket.from_model(model)
    ticket.save(directory / "ticket.npz")
    results = {
        "settings": all_settings,
        "density": model.density,
        "test_accuracy": test["accuracy"],
        "test_loss": test["loss"],
        "history": pruning[-1].history if settings.method == "imp" else pruning[0].history,
    }
    write_json(directory / "results.json", results)
    return results


def remove_training(directory):
    """Deletes the files that `run_training` has written into a folder, and no others.

    Args:
        directory: The folder.
    """
    remove_files(directory, FILES)


def _compiled_model(data, settings, seed):
    model = sparsify(MODELS[settings.model](data.input_shape, data.num_classes, seed))
    model.compile(
        keras.optimizers.Adam(settings.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        # On TensorFlow XLA makes convolutions on a CPU slower.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    return model


def _imp(settings, directory, steps_per_epoch):
    steps = settings.epochs * steps_per_epoch
    if settings.rewind_to_step >= steps:
        raise ValueError(
            "Argument `rewind_to_step` must lie within the first level, which has "
            f"{steps} steps. Received: rewind_to_step={settings.rewind_to_step}"
        )
    search = callbacks.IterativeMagnitudePruning(
        levels=settings.levels,
        epochs_per_level=settings.epochs,
        rate=settings.rate,
        scope=settings.scope,
        rewind=settings.rewind,
        rewind_to_step=settings.rewind_to_step,
        directory=directory / "search",
    )
    return [search], search.epochs


def _gmp(settings, directory, steps_per_epoch):
    steps = settings.epochs * steps_per_epoch
    # Pruning begins when the weights have settled a little, and leaves time to recover.
    schedule = Polynomial(settings.sparsity, begin_step=steps // 10, end_step=3 * steps // 4)
    pruning = callbacks.GradualMagnitudePruning(
        schedule, frequency=max(1, steps // 100), scope=settings.scope
    )
    checkpoint = Checkpoint(directory / "checkpoint.npz")
    return [checkpoint, pruning, callbacks.SparsityLogger()], settings.epochs
