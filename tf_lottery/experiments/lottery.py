"""The lottery ticket experiment: tickets against random reinitialization."""

import dataclasses
import json
import pathlib

import keras

from tf_lottery import callbacks, files
from tf_lottery.experiments.data import ShuffledBatches
from tf_lottery.experiments.models import lenet_300_100
from tf_lottery.model import sparsify
from tf_lottery.ticket import Ticket


@dataclasses.dataclass(frozen=True)
class LotterySettings:
    """The hyperparameters of the experiment; defaults are LeNet-300-100's in the paper.

    Args:
        levels: Integer, how many times to prune.
        epochs_per_level: Integer, epochs of `steps_per_epoch`.
        steps_per_epoch: Integer; `None` is one pass through the data.
        rate: Float, the share of weights a level prunes.
        output_rate: Float, the same for the output layer.
        batch_size: Integer.
        learning_rate: Float, of Adam.
        frequency: Integer, steps between two evaluations on the validation examples.
        steps_per_execution: Integer, steps per call of the compiled function.
        control_levels: Tuple of levels whose mask is also trained from a random
            reinitialization; `None` is all.
    """

    levels: int = 15
    epochs_per_level: int = 12
    steps_per_epoch: int | None = 1000
    rate: float = 0.2
    output_rate: float = 0.1
    batch_size: int = 60
    learning_rate: float = 1.2e-3
    frequency: int = 100
    steps_per_execution: int = 50
    control_levels: tuple | None = None


def run_lottery(data, settings, directory, seed=0, verbose=0):
    """Searches tickets in LeNet-300-100 and retrains their masks from new random weights.

    Experiment of "The Lottery Ticket Hypothesis" (arXiv:1803.03635, figures 3 and 4). A run
    that was killed goes on where it stopped when it is called again.

    Args:
        data: `Data` of images.
        settings: `LotterySettings`.
        directory: Folder for tickets and results, made if it does not exist.
        seed: Integer, the replicate: initial weights and order of the data. Defaults to
            `0`.
        verbose: As in `fit`, with a line per level. Defaults to `0`.

    Returns:
        List of dicts with `kind` (`"ticket"` or `"reinitialized"`), `level`, `density`,
        `iteration` (of the lowest validation loss), `loss` and `accuracy` there on the
        validation examples, and `test_accuracy` at the end of training.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tickets, rows = _search(data, settings, directory, seed, verbose)
    levels = range(1, settings.levels + 1)
    for level in levels if settings.control_levels is None else settings.control_levels:
        rows.append(_reinitialize(data, settings, directory, seed, tickets[level], verbose))
    return rows


def build_model(data, settings, seed):
    """Returns a compiled sparse LeNet-300-100.

    Args:
        data: `Data`, for the shape of images and the number of classes.
        settings: `LotterySettings`.
        seed: Integer, decides the initial weights.
    """
    model = sparsify(lenet_300_100(data.input_shape, data.num_classes, seed))
    model.compile(
        keras.optimizers.Adam(settings.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=True,
        steps_per_execution=settings.steps_per_execution,
    )
    return model


def _search(data, settings, directory, seed, verbose):
    search = callbacks.IterativeMagnitudePruning(
        levels=settings.levels,
        epochs_per_level=settings.epochs_per_level,
        rate={"output": settings.output_rate, ".": settings.rate},
        scope="layer",
        directory=directory,
        verbose=verbose,
    )
    model = build_model(data, settings, seed)
    path = directory / "evaluations.json"
    _train(model, data, settings, seed, search.epochs, path, [search])
    rows = [
        _row("ticket", level["level"], level["density"], level["logs"]) for level in search.history
    ]
    return search.tickets, rows


def _reinitialize(data, settings, directory, seed, ticket, verbose):
    """Trains the ticket's mask from new weights, or reads the result of having done so."""
    path = directory / f"reinitialized_{ticket.level:02d}.json"
    if path.exists():
        return json.loads(path.read_text())
    if verbose:
        print(f"Level {ticket.level}: density {ticket.density:.2%}, reinitialized")
    new_seed = 1000 * (seed + 1) + ticket.level
    model = build_model(data, settings, new_seed)
    ticket.apply(model, weights=False)
    history = _train(model, data, settings, new_seed, settings.epochs_per_level, None, [])
    row = _row("reinitialized", ticket.level, ticket.density, history.history)
    with files.atomic_path(path) as temporary:
        temporary.write_text(json.dumps(row))
    return row


def _train(model, data, settings, seed, epochs, path, extra):
    x, y = data.train
    batches = ShuffledBatches(x, y, settings.batch_size, settings.steps_per_epoch, seed)
    measure = callbacks.EarlyStopIteration(data.validation, settings.frequency, 5000, path)
    return model.fit(
        batches,
        epochs=epochs,
        validation_data=data.test,
        validation_freq=settings.epochs_per_level,
        validation_batch_size=1000,
        callbacks=[batches.follow_epoch(), measure, *extra],
        verbose=0,
    )


def _row(kind, level, density, logs):
    return {
        "kind": kind,
        "level": level,
        "density": density,
        "iteration": int(logs["early_stop_iteration"][-1]),
        "loss": float(logs["early_stop_loss"][-1]),
        "accuracy": float(logs["early_stop_accuracy"][-1]),
        "test_accuracy": float(logs["val_accuracy"][-1]),
    }
