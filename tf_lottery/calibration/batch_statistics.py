"""Recomputes the statistics of batch normalization after weights were changed directly."""

import contextlib

import keras
import numpy as np
from keras import ops

from tf_lottery import hosts
from tf_lottery._keras import all_layers
from tf_lottery.layers.gradients import compile_function


class BatchStatistics:
    """Recomputes the means and variances of a model's batch normalization layers.

    The moving averages of a layer fit only the weights with which they were collected. After
    weights were averaged, interpolated or pruned, they must be recomputed. The new statistics
    are the means and variances of the batches, averaged over all batches with the numbers of
    examples as weights, independent of the momentum. If a layer is called several times per
    batch, its calls are averaged. Layers run as in training, with dropout; frozen layers keep
    their statistics.

    The measuring function is compiled once; an instance can be used for any weight values.

    Args:
        model: A built `keras.Model`; for a `SparseModel`, the model that it wraps, with zeros
            written into its kernels.
        run_eagerly: Whether to run without compilation. Defaults to `False`.

    Example:

    >>> batches = [(images[:4], labels[:4], None), (images[4:], labels[4:], None)]
    >>> BatchStatistics(convolutional).update(batches)
    """

    def __init__(self, model, run_eagerly=False):
        self.model = model
        layers = [
            layer
            for layer in all_layers(model)
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        self.layers = [layer for layer in layers if layer.trainable and layer.built]
        self._statistics = [
            variable
            for layer in self.layers
            for variable in (layer.moving_mean, layer.moving_variance)
        ]
        measure = self._measure_batch
        self._measure = measure if run_eagerly else compile_function(measure)

    def update(self, batches):
        """Sets the statistics to those of the current weights.

        Args:
            batches: Iterable of batches `(x, y, sample_weight)`, of which only `x` is used.
        """
        values = [ops.convert_to_tensor(variable) for variable in self.model.variables]
        totals = [np.zeros(variable.shape, "float64") for variable in self._statistics]
        size = 0
        with _without_momentum(self.layers):
            for x, *_ in batches:
                count = len(keras.tree.flatten(x)[0])
                measured = self._measure(values, x)
                for total, value in zip(totals, measured, strict=True):
                    total += count * hosts.to_numpy(value).astype("float64")
                size += count
        for variable, total in zip(self._statistics, totals, strict=True):
            variable.assign(total / size)

    def _measure_batch(self, values, x):
        """Returns the statistics of one batch as a list of tensors."""
        pairs = list(zip(self.model.variables, values, strict=True))
        with _Record(pairs, self._statistics) as record:
            self.model(x, training=True)
        current = {id(variable): value for variable, value in pairs}
        return [
            sum(found) / len(found) if found else current[id(variable)]
            for variable, found in ((v, record.assigned[id(v)]) for v in self._statistics)
        ]


class _Record(keras.StatelessScope):
    """A stateless scope that records every value assigned to some variables."""

    def __init__(self, values, variables):
        super().__init__(values)
        self.assigned = {id(variable): [] for variable in variables}

    def add_update(self, update):
        """Adds an update, and records it."""
        variable, value = update
        if id(variable) in self.assigned:
            self.assigned[id(variable)].append(value)
        super().add_update(update)


@contextlib.contextmanager
def _without_momentum(layers):
    """Sets the momentum to 0, so that layers assign the statistics of the batch itself."""
    before = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum
