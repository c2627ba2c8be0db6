"""`tfl.interpolate`: the loss on the straight line between two networks (mode connectivity)."""

import collections.abc
import contextlib
import dataclasses
import itertools
from typing import Any

import keras
import numpy as np

from tf_lottery import hosts
from tf_lottery.calibration.batch_statistics import BatchStatistics
from tf_lottery.checks import positive_integer
from tf_lottery.data_sets import read_batches
from tf_lottery.model import SparseModel, check_settled
from tf_lottery.network_weights import weights_of
from tf_lottery.printable import Printable, plain_table
from tf_lottery.snapshot import Snapshot
from tf_lottery.ticket import Ticket
from tf_lottery.tweaks import check_untweaked

STABLE_BELOW = 0.02


@dataclasses.dataclass(frozen=True)
class Connectivity(Printable):
    """Loss and error at evenly spaced points between two networks.

    Printing it shows a table; `to_dict()` gives plain numbers.

    Args:
        alphas: List of floats from 0 to 1, the share of the first network at each point: the
            weights are `alpha * first + (1 - alpha) * second`.
        losses: List of floats, the loss at each point.
        errors: List of floats in [0, 1], the error at each point, or `None` for a model
            without a metric of accuracy. Defaults to `None`.
    """

    alphas: list
    losses: list
    errors: list | None = None

    @property
    def barrier_loss(self) -> float:
        """The highest loss minus the mean loss of the two networks."""
        return _barrier(self.losses)

    @property
    def barrier_error(self) -> float | None:
        """The highest error minus the mean error of the two networks, or `None`."""
        return None if self.errors is None else _barrier(self.errors)

    @property
    def is_stable(self) -> bool | None:
        """Whether the barrier of the error is below 2%, or `None` without errors."""
        return None if self.errors is None else self.barrier_error < STABLE_BELOW

    def to_dict(self) -> dict:
        """Returns the result as a dict of plain values, fit for JSON."""
        return {
            **dataclasses.asdict(self),
            "barrier_loss": self.barrier_loss,
            "barrier_error": self.barrier_error,
        }

    def __rich__(self):
        from rich.console import Group

        text = f"Between two networks the barrier of the loss is {self.barrier_loss:.4f}"
        if self.errors is not None:
            stable = "stable" if self.is_stable else "not stable"
            text += f", of the error {self.barrier_error:.2%}: {stable}"
        table = plain_table()
        for heading in ("Share of the first", "Loss", "Error"):
            table.add_column(heading, justify="right")
        for i, alpha in enumerate(self.alphas):
            error = "" if self.errors is None else f"{self.errors[i]:.2%}"
            table.add_row(f"{alpha:.3f}", f"{self.losses[i]:.4f}", error)
        return Group(text, table)


def interpolate(
    model: keras.Model,
    first: Snapshot | Ticket | keras.Model | dict,
    second: Snapshot | Ticket | keras.Model | dict,
    data: Any,
    *,
    points: int = 30,
    batches: Any = None,
    steps: int | None = None,
    accuracy: str | None = None,
    batch_size: int = 1000,
) -> Connectivity:
    """Evaluates a model at points on the straight line between two sets of weights.

    The barrier of the result is the linear interpolation instability of "Linear Mode
    Connectivity and the Lottery Ticket Hypothesis" (arXiv:1912.05671, section 2): two copies
    of a network, trained from the same weights with different noise, are stable if the error
    rises less than 2% between them.

    All floating-point weights are interpolated, those of pruned connections being zeros.
    The statistics of batch normalization are recomputed at every point, both ends included, as
    in `tf_lottery.calibration.batch_statistics`. The model's own `evaluate` is used at all points.
    The model is left exactly as it was.

    Args:
        model: A compiled model, sparse or not, of the architecture of the two networks.
        first: The network at alpha 1: a `Snapshot`, a `Ticket`, a model, or a dict of paths to
            weights, matched as in `Ticket.apply`. If it has masks, they are applied to its
            weights, else those of `model`.
        second: The network at alpha 0, in the same forms.
        data: Examples to evaluate on: a tuple of arrays `(x, y)` or `(x, y, sample_weight)`,
            or a data set for `evaluate` that can be read repeatedly, such as a
            `tf.data.Dataset` or `keras.utils.PyDataset`.
        points: Integer >= 2, the number of points, both ends included. Defaults to `30`.
        batches: Training examples for the statistics, required if the model has batch
            normalization: a tuple `(x, y)`, which is one batch, or an iterable of such tuples.
            Defaults to `None`.
        steps: Integer > 0, the largest number of batches to use. Defaults to `None`: all.
        accuracy: String, the name of the compiled metric that is `1 - error`. Defaults to
            `None`: the first metric whose name ends with "accuracy" or "acc".
        batch_size: Integer > 0. Examples per batch if `data` is a tuple of arrays. Defaults to
            `1000`.

    Returns:
        A `Connectivity`.

    Raises:
        ValueError: If an argument is outside its range, the model is not compiled or has soft
            gates, or `first` or `second` is of another architecture.

    Example:

    >>> start = tfl.Snapshot(sparse)
    >>> history = sparse.fit(x, y, epochs=10, verbose=0)
    >>> result = tfl.interpolate(sparse, sparse, start, (x_test, y_test), points=11)
    >>> len(result.losses), len(result.errors)
    (11, 11)
    """
    check_model(model)
    check_options(
        model,
        data,
        points=points,
        batches=batches,
        steps=steps,
        accuracy=accuracy,
        batch_size=batch_size,
    )
    ends = [weights_of(model, *end) for end in (("first", first), ("second", second))]
    inner = _inner(model)
    statistics = BatchStatistics(inner, model.run_eagerly)
    if isinstance(batches, collections.abc.Iterator):
        batches = list(itertools.islice(batches, steps))
    alphas, found = np.linspace(0.0, 1.0, points).tolist(), []
    with _left_as_it_was(model):
        if isinstance(model, SparseModel):
            # The weights of both ends already have their zeros.
            model.set_masks({p: np.ones(m.shape, bool) for p, m in model.get_masks().items()})
        for alpha in alphas:
            for variable, one, other in zip(inner.weights, *ends, strict=True):
                if one is not None:
                    variable.assign(_mean(alpha, one, other))
            if statistics.layers:
                statistics.update(read_batches(batches, steps))
            found.append(evaluate(model, data, batch_size, accuracy))
    losses, errors = zip(*found, strict=True)
    return Connectivity(alphas, list(losses), None if errors[0] is None else list(errors))


def check_options(
    model, data, *, points=30, batches=None, steps=None, accuracy=None, batch_size=1000
):
    """Raises a `ValueError` if `interpolate` could not use these arguments.

    Args:
        model: A model that passes `check_model`.
        data: As in `interpolate`, like the other arguments.
        points: Defaults to `30`.
        batches: Defaults to `None`.
        steps: Defaults to `None`.
        accuracy: Defaults to `None`.
        batch_size: Defaults to `1000`.
    """
    del accuracy
    positive_integer("batch_size", batch_size)
    if steps is not None:
        positive_integer("steps", steps)
    if positive_integer("points", points) < 2:
        raise ValueError(f"Argument `points` must be an integer >= 2. Received: points={points}")
    _check_examples(data)
    if BatchStatistics(_inner(model), model.run_eagerly).layers and batches is None:
        raise ValueError(
            "Argument `batches` must be training examples, since the statistics of batch "
            "normalization must be recomputed between two networks. Received: batches=None"
        )


def check_model(model):
    """Raises a `ValueError` if a model cannot be evaluated, or not in its final form.

    It must not have soft gates or active tweaks of retraining.

    Args:
        model: The object to check.
    """
    if not isinstance(model, keras.Model) or not model.built or not model.compiled:
        raise ValueError(
            "Argument `model` must be a built Keras model, compiled with a loss and metrics. "
            f"Received: {model!r}"
        )
    if isinstance(model, SparseModel):
        check_settled(model)
        check_untweaked(model)


def _check_examples(data):
    if isinstance(data, tuple) and len(data) in (2, 3):
        return
    if isinstance(data, tuple | list | collections.abc.Iterator):
        size = f" of {len(data)}" if isinstance(data, tuple | list) else ""
        raise ValueError(
            "Argument `data` must be a tuple of arrays `(x, y)` or `(x, y, sample_weight)`, or a "
            f"data set that can be read repeatedly. Received: {type(data).__name__}{size}"
        )


def _inner(model):
    """Returns the model whose weights a `SparseModel` masks, or the model itself."""
    return model.model if isinstance(model, SparseModel) else model


def _mean(alpha, first, second):
    # In float64, so that values that are equal at both ends stay bit-identical.
    return alpha * first.astype("float64") + (1.0 - alpha) * second.astype("float64")


@contextlib.contextmanager
def _left_as_it_was(model):
    """Restores all variables of a model, including those of its metrics."""
    # Copies: on the CPU a NumPy array can share memory with the variable.
    before = [(v, hosts.to_numpy(v).copy()) for v in model.variables]
    try:
        yield
    finally:
        # The first evaluation creates the variables of the metrics.
        model.reset_metrics()
        for variable, value in before:
            variable.assign(value)


def evaluate(model, data, batch_size, accuracy=None):
    """Returns the loss of a model, and the error or `None`.

    Args:
        model: A compiled model.
        data: See `interpolate`.
        batch_size: Integer.
        accuracy: See `interpolate`. Defaults to `None`.
    """
    if isinstance(data, tuple):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        results = model.evaluate(
            x, y, batch_size, sample_weight=sample_weight, verbose=0, return_dict=True
        )
    else:
        results = model.evaluate(data, verbose=0, return_dict=True)
    loss = results.pop("loss")
    if accuracy is None:
        accuracy = next((name for name in results if name.endswith(("accuracy", "acc"))), None)
    elif accuracy not in results:
        raise ValueError(
            f"Argument `accuracy` must be a compiled metric, one of {sorted(results)}. "
            f"Received: accuracy={accuracy!r}"
        )
    return float(loss), None if accuracy is None else 1.0 - float(results[accuracy])


def _barrier(values):
    return float(np.max(values) - (values[0] + values[-1]) / 2)
