"""Learn a factor for every weight tensor that minimizes the loss after the first step."""

import collections
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

from tf_lottery.checks import number_above, positive_integer
from tf_lottery.data_sets import read_batches
from tf_lottery.model import SparseModel, check_settled
from tf_lottery.printable import Printable, plain_table
from tf_lottery.retrain.scaled_network import ScaleAdam, ScaledNetwork, TrainableWeights
from tf_lottery.scoring.loss import loss_of_weights
from tf_lottery.scoring.overrides import without_noise


@dataclasses.dataclass(frozen=True)
class RescalingReport(Printable):
    """What `tfl.retrain.rescaled_initialization` found.

    Printing it shows a table; `to_dict()` gives plain values. The one-step loss and the norm of
    the gradient before and after are those of the first three batches.

    Args:
        scales: Dict of the paths of weights to the factor that each was multiplied by.
        skipped: List of the paths of trainable weights without a factor, since they are all zeros.
        one_step_loss: Pair of floats, the loss after one normalized step, before and after.
        gradient_norm: Pair of floats, the norm of the gradient of all trainable weights.
        history: Dict of `"gradient_norm"` to a list with the norm in every iteration, and of
            `"one_step_loss"` to the loss, `None` where the norm was reduced instead.
    """

    scales: dict
    skipped: list
    one_step_loss: tuple
    gradient_norm: tuple
    history: dict

    def to_dict(self) -> dict:
        """Returns the report as a dict of plain values, fit for JSON."""
        pairs = {"one_step_loss": list(self.one_step_loss), "gradient_norm": [*self.gradient_norm]}
        return {**dataclasses.asdict(self), **pairs}

    def __rich__(self):
        losses, norms = self.one_step_loss, self.gradient_norm
        title = (
            f"Loss after one step {losses[0]:.4g}, now {losses[1]:.4g}; "
            f"norm of the gradient {norms[0]:.4g}, now {norms[1]:.4g}"
        )
        table = plain_table(title=title, title_justify="left")
        table.add_column("Weight", overflow="fold")
        table.add_column("Scale", justify="right")
        for path, scale in self.scales.items():
            table.add_row(path, f"{scale:.4f}")
        for path in self.skipped:
            table.add_row(path, "all zeros")
        reduced = self.history["one_step_loss"].count(None)
        table.caption_justify = "left"
        table.caption = (
            f"{len(self.history['gradient_norm'])} iterations, {reduced} of which reduced the norm"
        )
        return table


def rescaled_initialization(
    model: SparseModel,
    batches: Any,
    loss: str | Callable | None = None,
    steps: int | None = None,
    iterations: int = 180,
    learning_rate: float = 0.01,
    step_size: float = 0.1,
    max_gradient_norm: float = 1.0,
    min_scale: float = 0.01,
) -> RescalingReport:
    """Rescales the weights of a sparse model so that its first training step helps most.

    Every trainable tensor, such as a kernel, a bias or the scale of a normalization, is
    multiplied by one learned factor. The factors minimize the loss after one step of length
    `step_size` along the gradient, as long as the norm of the gradient is at most
    `max_gradient_norm`; where it is larger, an iteration reduces the norm instead. This is GradInit
    (arXiv:2102.08098, algorithm 1), which "Spending Your Winning Lottery Better After Drawing
    It" (arXiv:2101.03255) and "Training Your Sparse Neural Network Better with Any Mask"
    (arXiv:2206.12755) use as layer-wise re-scaled initialization, with these defaults.

    Call this after masks are set and before training. Pruned weights are exactly zero before,
    during and after it. As in the official code, the gradient is that of two batches, the loss
    after the step is that of the first one and a new one, normalization uses the statistics of
    the batch, and dropout is off. Each batch is normalized by itself, and all have equal weight.
    Tensors of zeros stay zero. Statistics, seeds and the optimizer do not change; all layers
    compute in float32.

    Args:
        model: A `SparseModel`. On GPUs, TensorFlow has no second derivatives of the fused
            recurrent layers; give those `use_cudnn=False`.
        batches: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or an iterable of
            such tuples: a list, a `tf.data.Dataset`, a `keras.utils.PyDataset`. It is read
            again when it ends; the batches of a generator are kept in memory for that. An
            iteration uses two or three batches.
        loss: Keras loss, its name, or function `(y, y_pred)`. Defaults to `None`: the loss
            that the model was compiled with. Terms of weight regularizers are constant.
        steps: Integer > 0, how many batches to use at most. Defaults to `None`: all.
        iterations: Integer > 0. Defaults to `180`.
        learning_rate: Float > 0, that of Adam for the factors. Defaults to `0.01`.
        step_size: Float > 0, the length of the step. Defaults to `0.1`.
        max_gradient_norm: Float > 0. Defaults to `1.0`.
        min_scale: Float >= 0, the smallest factor of weights other than biases; that of biases
            is 0. Defaults to `0.01`.

    Returns:
        A `RescalingReport`.

    Raises:
        ValueError: If an argument is outside its range, the model is not sparse, has no loss or
            only zeros to train, there is no batch, or the loss or a gradient is not finite; then
            no weight is changed.

    Example:

    >>> sparse.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    >>> report = tfl.retrain.rescaled_initialization(sparse, (x, y), iterations=10)
    >>> before, after = report.one_step_loss
    >>> bool(after < before)
    True
    """
    check_settled(model)
    positive_integer("iterations", iterations)
    number_above("learning_rate", learning_rate, 0)
    number_above("step_size", step_size, 0)
    number_above("max_gradient_norm", max_gradient_norm, 0)
    number_above("min_scale", min_scale, 0, inclusive=True)
    weights = TrainableWeights(model)
    batches = _endless(batches, steps, 3 * (iterations + 1))
    adam = ScaleAdam(weights.least_scales(min_scale), learning_rate)
    history = {"gradient_norm": [], "one_step_loss": []}
    with (
        without_noise(model.model),
        loss_of_weights(model, weights.variables, loss, training=True) as loss_of,
    ):
        network = ScaledNetwork(model, loss_of, weights, step_size)
        first = list(itertools.islice(batches, 3))
        before = network.evaluate(adam.scales, first)
        batches = itertools.chain(first, batches)
        for _ in range(iterations):
            norm, after = _improve(network, adam, batches, max_gradient_norm)
            history["gradient_norm"].append(norm)
            history["one_step_loss"].append(after)
        now = network.evaluate(adam.scales, first)
    weights.multiply(adam.scales)
    norms, losses = zip(before, now, strict=True)
    return RescalingReport(weights.by_path(adam.scales), weights.zeros, losses, norms, history)


def _improve(network, adam, batches, max_gradient_norm):
    """Makes one iteration; returns the norm of the gradient, and the loss after a step or `None`.

    Args:
        network: A `ScaledNetwork`.
        adam: A `ScaleAdam`.
        batches: Iterator of batches.
        max_gradient_norm: Float.
    """
    pair = list(itertools.islice(batches, 2))
    norm, direction = network.gradient(adam.scales, pair)
    if norm > max_gradient_norm:
        adam.update("norm", network.slopes_of_norm(adam.scales, direction, pair))
        return norm, None
    evaluated = [pair[0], next(batches)]
    after, slopes = network.loss_after_step(adam.scales, direction, evaluated)
    adam.update("loss", slopes)
    return norm, after


def _endless(batches, steps, needed):
    """Yields batches forever: reads them again, or repeats the stored ones of an iterator.

    Args:
        batches: See `read_batches`.
        steps: Integer > 0, or `None`.
        needed: Integer, how many batches are used at most.
    """
    steps = needed if steps is None else min(positive_integer("steps", steps), needed)
    # A tuple is one batch, which is converted only once.
    if isinstance(batches, tuple | collections.abc.Iterator):
        yield from itertools.cycle(read_batches(batches, steps))
    while True:
        yield from read_batches(batches, steps)
