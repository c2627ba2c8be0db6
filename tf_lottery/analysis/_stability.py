"""`tfl.stability`: instability analysis, which compares two trainings from the same weights."""

import dataclasses
from typing import Any

import keras
import numpy as np

from tf_lottery.analysis.connectivity import (
    Connectivity,
    check_model,
    check_options,
    interpolate,
)
from tf_lottery.checks import natural_number, positive_integer
from tf_lottery.optimizers import step_variables
from tf_lottery.printable import Printable
from tf_lottery.snapshot import Snapshot
from tf_lottery.ticket import Ticket


@dataclasses.dataclass(frozen=True, eq=False)
class Stability(Printable):
    """Two trained copies of a network, and the loss and error between them.

    Args:
        connectivity: `Connectivity`.
        first: `Snapshot` of the copy that was trained with the first seed.
        second: `Snapshot` of the copy that was trained with the second seed.
    """

    connectivity: Connectivity
    first: Snapshot
    second: Snapshot

    @property
    def barrier_loss(self) -> float:
        """The barrier of the loss between the copies."""
        return self.connectivity.barrier_loss

    @property
    def barrier_error(self) -> float | None:
        """The barrier of the error between the copies (the instability), or `None`."""
        return self.connectivity.barrier_error

    @property
    def is_stable(self) -> bool | None:
        """Whether the barrier of the error is below 2%, or `None` without errors."""
        return self.connectivity.is_stable

    def to_dict(self) -> dict:
        """Returns the connectivity as a dict of plain values, fit for JSON."""
        return self.connectivity.to_dict()

    def __rich__(self):
        return self.connectivity


def stability(
    model: keras.Model,
    train: Any,
    data: Any,
    *,
    start: Ticket | Snapshot | tuple | list | None = None,
    seeds: tuple | list = (0, 1),
    epochs: int | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Stability:
    """Trains two copies of a network with different orders of the data, and compares them.

    This is the instability analysis of "Linear Mode Connectivity and the Lottery Ticket
    Hypothesis" (arXiv:1912.05671). Two copies start from the same weights. Training is stable
    if the error does not rise on the straight line between the trained copies. In the paper,
    pruned networks are as accurate as the dense one only if they are stable. With a ticket as
    `start`, the result says whether training is stable from the step of the ticket's weights.

    Both copies start with the same weights, masks, optimizer state and random states. If a
    ticket knows its training step, as tickets of a search do, the optimizer's step, which
    schedules follow, is set to it. Afterwards the model has the weights, masks and optimizer
    state that it had before.

    Args:
        model: A compiled model, sparse or not.
        train: The training data: a tuple of arrays `(x, y)` or `(x, y, sample_weight)`, which
            is shuffled for every epoch with the seed; or a function `(model, seed)` that
            trains the model, for any other data or training loop.
        data: Examples to compare the copies on, as in `tfl.interpolate`.
        start: Where the copies start: a `Ticket`, a `Snapshot`, or `None` for the model's
            current state. A pair of these gives each copy its own start, as a control: with
            independent initial weights there is a barrier. Defaults to `None`.
        seeds: Pair of integers >= 0 that decide the order of the data. Defaults to `(0, 1)`.
        epochs: Integer > 0, required if `train` is a tuple of arrays. Defaults to `None`.
        batch_size: Integer > 0, the batch size of training if `train` is a tuple of arrays.
            Defaults to `None`: 32.
        **options: Further arguments of `tfl.interpolate`: `points`, `batches` and `steps` for
            models with batch normalization, `accuracy`.

    Returns:
        A `Stability`.

    Raises:
        ValueError: If an argument is outside its range, the model is not compiled, or `start`
            does not fit it.

    Example:

    >>> result = tfl.stability(sparse, (x, y), (x_test, y_test), start=ticket, epochs=2, points=5)
    >>> result.is_stable
    True
    """
    check_model(model)
    check_options(model, data, **options)
    starts, seeds = _pair_of_starts(start), _pair_of_seeds(seeds)
    run = _trainer(train, epochs, batch_size)
    before = Snapshot(model)
    copies = []
    try:
        for beginning, seed in zip(starts, seeds, strict=True):
            before.restore(model)
            _begin(model, beginning)
            run(model, seed)
            copies.append(Snapshot(model))
    finally:
        before.restore(model)
    return Stability(interpolate(model, copies[0], copies[1], data, **options), *copies)


def _pair_of_starts(start):
    starts = tuple(start) if isinstance(start, tuple | list) else (start, start)
    if len(starts) != 2 or not all(s is None or isinstance(s, Ticket | Snapshot) for s in starts):
        raise ValueError(
            "Argument `start` must be a `Ticket`, a `Snapshot`, `None`, or a pair of these. "
            f"Received: start={start!r}"
        )
    return starts


def _pair_of_seeds(seeds):
    if not isinstance(seeds, tuple | list) or len(seeds) != 2 or seeds[0] == seeds[1]:
        raise ValueError(
            f"Argument `seeds` must be two different integers. Received: seeds={seeds!r}"
        )
    return tuple(natural_number(f"seeds[{i}]", seed) for i, seed in enumerate(seeds))


def _begin(model, start):
    """Sets a model to the state that a copy starts from."""
    if isinstance(start, Snapshot):
        start.restore(model)
    elif start is not None:
        unmatched = start.apply(model).unmatched
        if unmatched:
            raise ValueError(
                f"Argument `start` must be a ticket of the model. Received: one with {unmatched}"
            )
        step = start.provenance.get("step")
        for counter in step_variables(model.optimizer) if step is not None else ():
            counter.assign(step)


def _trainer(train, epochs, batch_size):
    """Returns the function `(model, seed)` that trains a copy."""
    if callable(train):
        if epochs is not None or batch_size is not None:
            raise ValueError(
                "Arguments `epochs` and `batch_size` must be `None` if `train` is a function, "
                f"which decides them. Received: epochs={epochs}, batch_size={batch_size}"
            )
        return train
    if not isinstance(train, tuple) or len(train) not in (2, 3):
        raise ValueError(
            "Argument `train` must be a tuple of arrays `(x, y)` or `(x, y, sample_weight)`, or a "
            f"function `(model, seed)`. Received: {type(train).__name__}"
        )
    positive_integer("epochs", epochs)
    if batch_size is not None:
        positive_integer("batch_size", batch_size)

    def fit(model, seed):
        batches = _ShuffledBatches(train, batch_size or 32, seed)
        shuffle = keras.callbacks.LambdaCallback(on_epoch_begin=batches.shuffle)
        # One `fit`, since at its end an optimizer with `use_ema` replaces weights by averages.
        model.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[shuffle])

    return fit


class _ShuffledBatches(keras.utils.PyDataset):
    """Batches in an order that depends on seed and epoch, and not on the global random state.

    Args:
        arrays: Tuple of arrays `(x, y)` or `(x, y, sample_weight)`.
        batch_size: Integer.
        seed: Integer.
    """

    def __init__(self, arrays, batch_size, seed):
        super().__init__()
        self._arrays = keras.tree.map_structure(_in_default_precision, arrays)
        self._size = len(keras.tree.flatten(arrays)[0])
        self._batch_size, self._seed = batch_size, seed
        self.shuffle(0)

    def shuffle(self, epoch, logs=None):
        """Draws the order of an epoch."""
        del logs
        self._order = np.random.default_rng([self._seed, epoch]).permutation(self._size)

    def __len__(self):
        return -(-self._size // self._batch_size)

    def __getitem__(self, index):
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return keras.tree.map_structure(lambda array: array[chosen], self._arrays)


def _in_default_precision(array):
    """Returns an array as `fit` takes it: floating-point numbers in the default precision."""
    array = np.asarray(array)
    return array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array
