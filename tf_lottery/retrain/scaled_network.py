"""The loss of a network after one step, as a function of factors of its weights."""

import numpy as np
from keras import ops

from tf_lottery import hosts
from tf_lottery.layers.gradients import hessian_products, value_and_gradients
from tf_lottery.model import named_weights
from tf_lottery.scoring.loss import compile_for, sum_over_batches

# Constants of Adam and the bound of the slopes, as in the official code of GradInit.
_FIRST_DECAY, _SECOND_DECAY, _EPSILON, _STEEPEST = 0.9, 0.999, 1e-8, 1.0
# Names of weights that are added to signals; these may be scaled to zero.
_ADDED = ("bias", "beta")
_TINY = 1e-30


class TrainableWeights:
    """The trainable weights of a sparse model, zero where its masks prune.

    Args:
        model: A `SparseModel`.

    Attributes:
        variables: List of the variables.
        values: List of arrays, zeros where masks prune.
        masks: List of boolean arrays, a scalar for weights that have no mask.

    Raises:
        ValueError: If all of them are zero.
    """

    def __init__(self, model):
        paths = {id(variable): name for name, variable in named_weights(model).items()}
        kernels, masks = model.get_kernels(), model.get_masks()
        self.variables = list(model.model.trainable_weights)
        self._paths = [paths[id(variable)] for variable in self.variables]
        effective = {id(kernel): kernels[path] for path, kernel in model.kernels.items()}
        self.values = [
            effective.get(id(variable), hosts.to_numpy(variable)) for variable in self.variables
        ]
        by_id = {id(kernel): masks[path] for path, kernel in model.kernels.items()}
        self.masks = [by_id.get(id(variable), np.array(True)) for variable in self.variables]
        self._nonzero = [bool(np.any(value)) for value in self.values]
        if not any(self._nonzero):
            raise ValueError(
                "Argument `model` must have trainable weights that are not zero. "
                f"Received: {model.name!r}"
            )

    @property
    def zeros(self):
        """List of the paths of weights that are all zeros."""
        pairs = zip(self._paths, self._nonzero, strict=True)
        return [path for path, nonzero in pairs if not nonzero]

    def by_path(self, scales):
        """Returns a dict of the paths of weights that are not all zeros to their scales."""
        triples = zip(self._paths, self._nonzero, scales, strict=True)
        return {path: float(scale) for path, nonzero, scale in triples if nonzero}

    def least_scales(self, least):
        """Returns an array of the smallest scales: `least`, but 0 for biases."""
        return np.array([0.0 if v.name.endswith(_ADDED) else least for v in self.variables])

    def multiply(self, scales):
        """Multiplies the weights by their scales, and sets pruned ones to zero."""
        for i, variable in enumerate(self.variables):
            if self._nonzero[i]:
                scaled = self.values[i].astype("float32") * np.float32(scales[i])
                hosts.assign(variable, scaled.astype(self.values[i].dtype))


class ScaledNetwork:
    """Computes the gradient of the loss, and how its norm and the next loss depend on scales.

    Gradients of pruned weights are set to zero, so that a step leaves these weights at zero.

    Args:
        model: A `SparseModel`.
        loss_of: Function `(tensors, x, y, sample_weight)` that returns a scalar tensor.
        weights: A `TrainableWeights`.
        step_size: Float, the length of a step.
    """

    def __init__(self, model, loss_of, weights, step_size):
        self._values = [ops.convert_to_tensor(v, "float32") for v in weights.values]
        self._masks = [ops.convert_to_tensor(mask) for mask in weights.masks]
        self._step_size = step_size

        def scaled(scales, values):
            return [s * v for s, v in zip(ops.unstack(scales), values, strict=True)]

        def gradient(scales, values, *batch):
            loss, gradients = value_and_gradients(loss_of, scaled(scales, values), *batch)
            return [loss, *gradients]

        def slopes_of_norm(scales, values, direction, *batch):
            products = hessian_products(loss_of, scaled(scales, values), direction, *batch)
            pairs = zip(values, products, strict=True)
            return [ops.stack([ops.sum(value * product) for value, product in pairs])]

        def loss_ahead(scales, values, direction, *batch):
            pairs = zip(scaled(scales[0], values), direction, strict=True)
            return loss_of([value - step_size * d for value, d in pairs], *batch)

        def slopes_ahead(scales, values, direction, *batch):
            loss, slopes = value_and_gradients(loss_ahead, [scales], values, direction, *batch)
            return [loss, *slopes]

        self._gradient = compile_for(model, gradient)
        self._direction = compile_for(model, _normalized)
        self._slopes_of_norm = compile_for(model, slopes_of_norm)
        self._slopes_ahead = compile_for(model, slopes_ahead)

    def gradient(self, scales, batches):
        """Returns the norm of the mean gradient, and its direction as a list of tensors.

        Args:
            scales: Array of floats, one for every weight.
            batches: List of batches.

        Raises:
            ValueError: If the gradient is not finite.
        """
        _, *sums = self._sums(self._gradient, scales, batches)
        norm, direction = self._direction(sums, self._masks)
        return _finite(norm)[()] / len(batches), direction

    def slopes_of_norm(self, scales, direction, batches):
        """Returns the derivatives of the norm of the mean gradient with respect to the scales.

        Args:
            scales: Array of floats, one for every weight.
            direction: List of tensors, the direction of the gradient.
            batches: List of batches.

        Raises:
            ValueError: If they are not finite.
        """
        # The derivative of a norm is that of the component along its direction.
        [slopes] = self._sums(self._slopes_of_norm, scales, batches, direction)
        return _finite(slopes) / len(batches)

    def loss_after_step(self, scales, direction, batches):
        """Returns the mean loss after a step, and its derivatives with respect to the scales.

        As in GradInit the step is held fixed, and the derivatives are divided by its length.

        Args:
            scales: Array of floats, one for every weight.
            direction: List of tensors, the direction that the step goes against.
            batches: List of batches.

        Raises:
            ValueError: If they are not finite.
        """
        loss, slopes = self._sums(self._slopes_ahead, scales, batches, direction)
        slopes = _finite(slopes) / self._step_size
        return _finite(loss)[()] / len(batches), slopes / len(batches)

    def evaluate(self, scales, batches):
        """Returns the norm of the gradient of two batches, and the loss after a step along it.

        Args:
            scales: Array of floats, one for every weight.
            batches: List of three batches. The gradient is that of the first two, the loss that
                of the first and the last.
        """
        norm, direction = self.gradient(scales, batches[:2])
        return norm, self.loss_after_step(scales, direction, [batches[0], batches[2]])[0]

    def _sums(self, function, scales, batches, *args):
        scales = ops.convert_to_tensor(scales, "float32")
        return sum_over_batches(function, batches, scales, self._values, *args)


def _normalized(gradients, masks):
    """Returns the norm of masked gradients, and the gradients divided by it."""
    masked = [ops.where(mask, g, 0.0) for g, mask in zip(gradients, masks, strict=True)]
    norm = ops.sqrt(sum(ops.sum(g * g) for g in masked))
    return norm, [g / ops.maximum(norm, _TINY) for g in masked]


def _finite(tensor):
    array = hosts.to_numpy(tensor).astype("float64")
    if not np.all(np.isfinite(array)):
        raise ValueError(
            "The loss and its gradients must be finite numbers; check the data, the loss and the "
            f"weights. Received: {array}"
        )
    return array


class ScaleAdam:
    """Adam for the scales, with separate first moments for the two kinds of slopes.

    Both share the second moment, as in the official code of GradInit.

    Args:
        least: Array of the smallest scales.
        learning_rate: Float > 0.

    Attributes:
        scales: Array of floats, ones at first.
    """

    def __init__(self, least, learning_rate):
        self.scales = np.ones(len(least))
        self._least, self._learning_rate = least, learning_rate
        self._steps = {"norm": 0, "loss": 0}
        self._first = {kind: np.zeros(len(least)) for kind in self._steps}
        self._second = np.zeros(len(least))

    def update(self, kind, slopes):
        """Moves the scales against their slopes.

        Args:
            kind: `"norm"` or `"loss"`, the function with these slopes.
            slopes: Array of floats.
        """
        slopes = np.clip(slopes, -_STEEPEST, _STEEPEST)
        self._steps[kind] += 1
        self._first[kind] = _FIRST_DECAY * self._first[kind] + (1 - _FIRST_DECAY) * slopes
        self._second = _SECOND_DECAY * self._second + (1 - _SECOND_DECAY) * slopes**2
        first = self._first[kind] / (1 - _FIRST_DECAY ** self._steps[kind])
        second = self._second / (1 - _SECOND_DECAY ** sum(self._steps.values()))
        moved = self.scales - self._learning_rate * first / (np.sqrt(second) + _EPSILON)
        self.scales = np.maximum(moved, self._least)
