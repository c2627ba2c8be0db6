"""`tfl.channel_scores`: how important the channels of a model are, measured on data."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tf_lottery import hosts
from tf_lottery.data_sets import read_batches
from tf_lottery.layers.gradients import value_and_gradients
from tf_lottery.layers.interception import intercepted
from tf_lottery.layers.weights import owners_of_weights
from tf_lottery.model import SparseModel, check_settled
from tf_lottery.scoring.loss import compile_for, effective_kernels, loss_of_kernels
from tf_lottery.sparsity import group_scores
from tf_lottery.structured.selection import member_values, scores_of_channels

_READERS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


def channel_scores(
    model: SparseModel,
    scores: str | Callable,
    batches: Any = None,
    *,
    loss: str | Callable | None = None,
    steps: int | None = None,
    training: bool = False,
    normalize: bool = True,
) -> dict[str, np.ndarray]:
    """Scores the channels of a model's groups, on data if the scores need it.

    The result is what `tfl.prune(model, sparsity, scores=...)` takes. `tf_lottery.sparsity.
    group_scores` has the formulas. Nothing in the model changes.

    Args:
        model: A `SparseModel` with the pattern `"channel"`.
        scores: `"taylor"`: the first-order change of the loss without a channel. `"obd"`: the
            second-order change, from squared gradients. `"activation"`: the mean magnitude of the
            channel where dense and convolutional layers read it. `"l1"`, `"l2"`, `"norm_scale"`
            need no data. Or a function with the signature of that module, which gets the
            gradients on one batch after another; the scores are averaged.
        batches: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or an iterable of such
            tuples. Squared gradients are means over batches, so `"obd"` is closest to its formula
            with batches of one example. Defaults to `None`, for scores that need no data.
        loss: Keras loss, its name, or function `(y, y_pred)`. Defaults to `None`: the loss that
            the model was compiled with.
        steps: Integer > 0, how many batches to use at most. Defaults to `None`: all.
        training: Whether batch normalization and dropout behave as in training. Defaults to
            `False`.
        normalize: Whether to divide scores by their mean in the group, so that groups can be
            ranked together. Defaults to `True`.

    Returns:
        Dict of the names of groups to arrays, one score for each channel.

    Raises:
        ValueError: If an argument is outside its range, the model has no channel groups or loss,
            there is no batch, or a score is not finite.

    Example:

    >>> sparse = tfl.sparsify(model, pattern="channel")
    >>> scores = tfl.channel_scores(sparse, "taylor", (x, y), loss=loss)
    >>> masks = tfl.prune(sparse, 0.5, scores=scores, scope="global")
    >>> sparse.sparsity
    0.5
    """
    score = group_scores.get(scores)
    check_settled(model)
    if not model.couples() or score in map(group_scores.get, group_scores.OF_WEIGHTS):
        found = scores_of_channels(model, score, normalize=normalize)
    else:
        found = _measured(model, score, batches, loss, steps, training)
        if normalize:
            found = {name: group_scores.normalized(array) for name, array in found.items()}
    broken = [name for name, array in found.items() if not np.all(np.isfinite(array))]
    if broken:
        raise ValueError(
            "Scores must be finite numbers; check the data, the loss and the weights. "
            f"Received: scores of {broken} that are not finite"
        )
    return found


def _measured(model, score, batches, loss, steps, training):
    """Returns the scores of all groups, measured on batches."""
    weights = member_values(model)

    def scores_with(statistics):
        return {group.name: score(group, weights, statistics) for group in model.groups}

    if score is group_scores.activation:
        return scores_with(_mean_inputs(model, batches, steps))
    gradients = _gradients(model, batches, loss, steps, training)
    if score is group_scores.obd:
        squares = ({key: array**2 for key, array in batch.items()} for batch in gradients)
        return scores_with(_mean_of(squares))
    return _mean_of(map(scores_with, gradients))


def _gradients(model, batches, loss, steps, training):
    """Yields dicts of kernel names to the gradients on each batch."""
    with loss_of_kernels(model, loss, training) as loss_of:

        def gradients_of(kernels, *batch):
            return value_and_gradients(loss_of, kernels, *batch)[1]

        compiled, kernels = compile_for(model, gradients_of), effective_kernels(model)
        for batch in read_batches(batches, steps):
            gradients = map(hosts.to_numpy, compiled(kernels, *batch))
            yield dict(zip(model.kernels, gradients, strict=True))


def _mean_inputs(model, batches, steps):
    """Returns a dict of the keys of readers to the mean magnitudes of the inputs they multiply."""
    layers = _reading_layers(model)
    recorded = {}

    def recording(key):
        def make_call(call):
            def record(x, *args, **kwargs):
                axes = tuple(range(len(x.shape) - 1))
                recorded.setdefault(key, []).append(ops.mean(ops.abs(x), axis=axes))
                return call(x, *args, **kwargs)

            return record

        return make_call

    def means_of(x):
        recorded.clear()
        # The scope discards the updates of seeds.
        with keras.StatelessScope():
            model.call_with(model.effective_kernels(), x, training=False)
        return {key: sum(means) / len(means) for key, means in recorded.items()}

    with contextlib.ExitStack() as stack:
        for key, layer in layers.items():
            stack.enter_context(intercepted(layer, recording(key)))
        compiled = compile_for(model, means_of)
        means = (compiled(batch[0]) for batch in read_batches(batches, steps))
        found = _mean_of({k: hosts.to_numpy(v) for k, v in m.items()} for m in means)
    unread = [g.name for g in model.groups if not any(m.key in found for m in g.readers)]
    if unread:
        raise ValueError(
            "Scores 'activation' are measured where dense and convolutional layers read channels. "
            f"Use other scores, or exclude the kernels. Received: groups {unread}, which are read "
            "by other layers alone"
        )
    return found


def _reading_layers(model):
    """Returns a dict of keys of kernels to the layers that multiply channels by them in place."""
    owners, members = owners_of_weights(model.model), model.wrapper.named_members()
    found = {}
    for group in model.groups:
        for reader in group.readers:
            variable = members[reader.key]
            layer = owners[id(variable)]
            is_plain = isinstance(layer, _READERS) and variable.name == "kernel"
            is_plain = is_plain and getattr(layer, "groups", 1) == 1
            is_last = getattr(layer, "data_format", None) in (None, "channels_last")
            if is_plain and is_last and reader.axis == len(variable.shape) - 2:
                found[reader.key] = layer
    return found


def _mean_of(dicts):
    """Returns the mean of dicts of arrays."""
    total, count = {}, 0
    for values in dicts:
        total = {key: total.get(key, 0) + array for key, array in values.items()}
        count += 1
    return {key: array / count for key, array in total.items()}
