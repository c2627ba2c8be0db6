"""The loss of a batch as a function of the weights."""

import contextlib
import functools

import keras
from keras import ops

from tf_lottery.layers.gradients import compile_function
from tf_lottery.scoring.overrides import computing_in


def loss_of_kernels(model, loss=None, training=False, temperature=1.0):
    """Provides the loss as a function of the kernels, without changing the model.

    Args:
        model: A `SparseModel`.
        loss: See `loss_of_weights`. Defaults to `None`.
        training: See `loss_of_weights`. Defaults to `False`.
        temperature: See `loss_of_weights`. Defaults to `1.0`.

    Returns:
        A context manager like `loss_of_weights`; tensors are in the order of `model.kernels`.

    Raises:
        ValueError: If there is no loss or `temperature` is outside its range.
    """
    return loss_of_weights(model, list(model.kernels.values()), loss, training, temperature)


@contextlib.contextmanager
def loss_of_weights(model, variables, loss=None, training=False, temperature=1.0):
    """Provides the loss as a function of some weights, without changing the model.

    Kernels that are not among these weights are masked as usual.

    All layers compute in float32, also with mixed precision: gradients in float16 underflow,
    and speed matters little in what is done once. The loss includes the terms that layers
    add; those of weight regularizers have no gradient.

    Args:
        model: A `SparseModel`.
        variables: List of weights of `model.model`.
        loss: Keras loss, its name, or function `(y, y_pred)`. Defaults to `None`: the loss
            that the model was compiled with.
        training: Whether batch normalization and dropout behave as in training. Defaults to
            `False`.
        temperature: Float > 0, by which the model's outputs are divided. Defaults to `1.0`.

    Yields:
        Function `(tensors, x, y, sample_weight)` of a list of tensors, which replace
        `variables`, and a batch. It returns a scalar tensor.

    Raises:
        ValueError: If there is no loss or `temperature` is outside its range.
    """
    if loss is None and not model.compiled:
        raise ValueError(
            "Argument `loss` must be given for a model that is not compiled. Received: loss=None"
        )
    if isinstance(temperature, bool) or not temperature > 0:
        raise ValueError(
            f"Argument `temperature` must be a number > 0. Received: temperature={temperature!r}"
        )
    compute_loss = model.compute_loss if loss is None else _compute_loss(keras.losses.get(loss))
    given = {id(variable) for variable in variables}
    any_masked = any(id(kernel) not in given for kernel in model.kernels.values())

    def loss_of(tensors, x, y, sample_weight):
        masked = model.effective_kernels() if any_masked else []
        # Of two values for a variable the last one counts.
        replaced = [*masked, *zip(variables, tensors, strict=True)]
        # The scope discards updates of statistics and seeds. Weight regularizers read the
        # unreplaced values from it.
        values = [(variable, variable.value) for variable in model.variables]
        with keras.StatelessScope(values, collect_losses=True):
            y_pred = model.call_with(replaced, x, training=training)
            y_pred = keras.tree.map_structure(lambda output: output / temperature, y_pred)
            return compute_loss(x, y, y_pred, sample_weight)

    # A compiled loss creates its variables in its first call. In a scope they get their values
    # only when the scope ends, outside of any graph.
    with computing_in(model, "float32"), keras.StatelessScope():
        yield loss_of


def compile_for(model, function):
    """Returns the function compiled, unless the model runs eagerly.

    Args:
        model: A `SparseModel`.
        function: Function of tensors.
    """
    return function if model.run_eagerly else compile_function(function)


def effective_kernels(model):
    """Returns the kernels as a list of tensors, zero where masks prune.

    Args:
        model: A `SparseModel`.
    """
    return [ops.convert_to_tensor(kernel) for kernel in model.get_kernels().values()]


def sum_over_batches(function, batches, *args):
    """Returns the sums over batches of the tensors that a function returns.

    Args:
        function: Function `(*args, x, y, sample_weight)` that returns a list of tensors.
        batches: Iterable of such batches, at least one.
        *args: Passed to the function.
    """
    return functools.reduce(
        lambda sums, new: [a + b for a, b in zip(sums, new, strict=True)],
        (function(*args, *batch) for batch in batches),
    )


def _compute_loss(loss):
    def compute_loss(x, y, y_pred, sample_weight):
        del x
        if sample_weight is None:
            return ops.mean(loss(y, y_pred))
        if isinstance(loss, keras.losses.Loss):
            return loss(y, y_pred, sample_weight)
        values = loss(y, y_pred)
        return ops.mean(values * ops.cast(sample_weight, values.dtype))

    return compute_loss
