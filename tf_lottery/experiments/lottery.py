"""The lottery ticket experiment: tickets compared with random reinitialization."""

import dataclasses
import pathlib

import keras

from tf_lottery import callbacks
from tf_lottery._strip import strip
from tf_lottery.controls import random_reinitialization
from tf_lottery.experiments.batches import ShuffledBatches
from tf_lottery.experiments.devices import evaluation_batch_size
from tf_lottery.experiments.methods import dynamic_frequency
from tf_lottery.experiments.models import lenet_300_100
from tf_lottery.experiments.run_folder import locked_run, read_json, save_model, write_json
from tf_lottery.pruning import sparsify
from tf_lottery.snapshot import Snapshot


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
        jit_compile: Whether to compile with XLA, which takes seconds and does not speed up
            small steps, or `"auto"`: as Keras decides.

    Example:

    >>> settings = LotterySettings(levels=3)
    >>> round((1 - settings.rate) ** settings.levels, 3)  # density of the hidden layers
    0.512
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
    jit_compile: bool | str = True


def run_lottery(data, settings, directory, seed=0, verbose=0, on_row=None):
    """Searches tickets in LeNet-300-100 and retrains their masks from new random weights.

    Experiment of "The Lottery Ticket Hypothesis" (arXiv:1803.03635, figures 3 and 4). Call
    this again to resume a run that was killed. For each level, the ticket
    (`ticket_07.npz`) and the network trained from it (`trained_07.keras`, a plain Keras
    model) are saved to the folder.

    Args:
        data: `Data` of images.
        settings: `LotterySettings`.
        directory: Folder for tickets and results, made if it does not exist.
        seed: Integer, the replicate: initial weights and order of the data. Defaults to
            `0`.
        verbose: As in `fit`, with a line per level. Defaults to `0`.
        on_row: Function that is called with a row when its training ends, so not with rows
            of an earlier run. Defaults to `None`.

    Returns:
        List of dicts with `kind` (`"ticket"` or `"reinitialized"`), `level`, `density`,
        `iteration` (of the lowest validation loss), `loss` and `accuracy` there on the
        validation examples, and `test_accuracy` at the end of training.

    Raises:
        ValueError: If training fails, or `directory` holds a run with other arguments.
        OSError: If `directory` cannot be written.

    Example:

    >>> from tf_lottery.experiments.data import load
    >>> settings = LotterySettings(
    ...     levels=2, epochs_per_level=1, steps_per_epoch=50, frequency=50, jit_compile=False
    ... )
    >>> rows = run_lottery(load("digits"), settings, "runs/lottery")
    >>> [row["kind"] for row in rows]
    ['ticket', 'ticket', 'ticket', 'reinitialized', 'reinitialized']
    """
    directory = pathlib.Path(directory)
    arguments = {**data.settings, "seed": seed, **dataclasses.asdict(settings)}
    on_row = on_row or (lambda row: None)
    with locked_run(directory, "lottery", arguments):
        tickets, rows = _search(data, settings, directory, seed, verbose, on_row)
        levels = range(1, settings.levels + 1)
        if settings.control_levels is not None:
            levels = settings.control_levels
        controls = [tickets[level] for level in levels]
        return rows + _reinitialize(data, settings, directory, seed, controls, verbose, on_row)


def run_rigl(data, settings, directory, ticket, seed=0, on_row=None):
    """Trains LeNet-300-100 with RigL at the density of a ticket, for as long as the ticket.

    Args:
        data: `Data` of images.
        settings: `LotterySettings`.
        directory: Folder of `run_lottery`, for `rigl_07.json`. If the file exists, nothing
            is trained.
        ticket: Dict, a row of `run_lottery`.
        seed: Integer, decides initial weights, connections and order of the data. Defaults to
            `0`.
        on_row: Function that is called with the row when training ends. Defaults to `None`.

    Returns:
        Dict as `run_lottery` returns them, with `kind="rigl"`.

    Raises:
        OSError: If `directory` cannot be written.

    Example:

    >>> from tf_lottery.experiments.data import load
    >>> settings = LotterySettings(
    ...     levels=1, epochs_per_level=1, steps_per_epoch=50, frequency=50, jit_compile=False
    ... )
    >>> rows = run_lottery(load("digits"), settings, "runs/lottery")
    >>> run_rigl(load("digits"), settings, "runs/lottery", rows[-1])["kind"]
    'rigl'
    """
    path = pathlib.Path(directory) / f"rigl_{ticket['level']:02d}.json"
    if path.exists():
        return read_json(path)
    sparsity = 1.0 - ticket["density"]
    model = build_model(data, settings, seed, sparsity, distribution="erk", scores="random")
    epochs = settings.epochs_per_level
    steps = epochs * (settings.steps_per_epoch or len(data.train[1]) // settings.batch_size)
    rigl = callbacks.RigL(dynamic_frequency(steps))
    history = _train(model, data, settings, seed, epochs, None, [rigl])
    row = _row("rigl", ticket["level"], model.density, _last(history.history))
    write_json(path, row)
    if on_row:
        on_row(row)
    return row


def build_model(data, settings, seed, sparsity=0.0, **kwargs):
    """Returns a compiled sparse LeNet-300-100.

    Args:
        data: `Data`, for the shape of images and the number of classes.
        settings: `LotterySettings`.
        seed: Integer, decides the initial weights, and masks that are random.
        sparsity: Float in [0, 1). Defaults to `0.0`: nothing is pruned yet.
        **kwargs: Further arguments of `tfl.sparsify`.
    """
    model = lenet_300_100(data.input_shape, data.num_classes, seed)
    model = sparsify(model, sparsity, seed=seed, **kwargs)
    model.compile(
        keras.optimizers.Adam(settings.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=settings.jit_compile,
        steps_per_execution=settings.steps_per_execution,
    )
    return model


class _EndOfLevel(callbacks.SparsityCallback):
    """Keeps the trained network of every level and reports the level.

    It has to stand before the search in the list of callbacks. The search then records the
    level after the network is saved; a program killed in between trains the epoch again.
    """

    def __init__(self, epochs_per_level, directory, on_row):
        super().__init__()
        self.epochs_per_level = epochs_per_level
        self.directory = directory
        self.on_row = on_row

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        levels, remainder = divmod(epoch + 1, self.epochs_per_level)
        if remainder == 0 and self.failure is None:
            save_model(strip(self.model), self.directory / f"trained_{levels - 1:02d}.keras")
            self.on_row(_row("ticket", levels - 1, self.model.density, logs))


def _search(data, settings, directory, seed, verbose, on_row):
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
    end_of_level = _EndOfLevel(settings.epochs_per_level, directory, on_row)
    _train(model, data, settings, seed, search.epochs, path, [end_of_level, search])
    rows = [
        _row("ticket", level["level"], level["density"], _last(level["logs"]))
        for level in search.history
    ]
    return search.tickets, rows


def _reinitialize(data, settings, directory, seed, tickets, verbose, on_row):
    """Trains the tickets' masks from new weights, or reads the results of an earlier run."""
    rows, model, start = [], None, None
    for ticket in tickets:
        path = directory / f"reinitialized_{ticket.level:02d}.json"
        if not path.exists():
            if verbose:
                print(f"Level {ticket.level}: density {ticket.density:.2%}, reinitialized")
            if model is None:
                model = build_model(data, settings, seed)
                start = Snapshot(model)
            start.restore(model)
            row = _train_control(model, data, settings, seed, ticket)
            write_json(path, row)
            on_row(row)
        rows.append(read_json(path))
    return rows


def _train_control(model, data, settings, seed, ticket):
    new_seed = 1000 * (seed + 1) + ticket.level
    fresh = lenet_300_100(data.input_shape, data.num_classes, new_seed)
    random_reinitialization(ticket, fresh).apply(model)
    history = _train(model, data, settings, new_seed, settings.epochs_per_level, None, [])
    return _row("reinitialized", ticket.level, ticket.density, _last(history.history))


def _train(model, data, settings, seed, epochs, path, extra):
    x, y = data.train
    batches = ShuffledBatches(x, y, settings.batch_size, settings.steps_per_epoch, seed)
    measure = callbacks.EarlyStopIteration(
        data.validation, settings.frequency, batch_size=5000, path=path
    )
    watch = callbacks.SparsityCallback()
    history = model.fit(
        batches,
        epochs=epochs,
        shuffle=False,
        validation_data=data.test,
        validation_freq=settings.epochs_per_level,
        validation_batch_size=evaluation_batch_size(data.test),
        callbacks=[batches.follow_epoch(), watch, measure, *extra],
        verbose=0,
    )
    if watch.failure is not None:
        raise ValueError(f"Training failed: {watch.failure}")
    return history


def _last(history):
    return {name: values[-1] for name, values in history.items()}


def _row(kind, level, density, logs):
    return {
        "kind": kind,
        "level": level,
        "density": density,
        "iteration": int(logs["early_stop_iteration"]),
        "loss": float(logs["early_stop_loss"]),
        "accuracy": float(logs["early_stop_accuracy"]),
        "test_accuracy": float(logs["val_accuracy"]),
    }
