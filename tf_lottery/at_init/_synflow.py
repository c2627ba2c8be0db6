"""SynFlow: prune the weights with the least synaptic flow, without any data."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tf_lottery import hosts
from tf_lottery.at_init.inputs import ones
from tf_lottery.at_init.ranking import keep_highest, set_masks, target_sparsities
from tf_lottery.checks import positive_integer
from tf_lottery.layers._functional_call import functional_call
from tf_lottery.layers.gradients import value_and_gradients
from tf_lottery.model import SparseModel
from tf_lottery.scoring.loss import compile_for, effective_kernels
from tf_lottery.scoring.overrides import computing_in, remembered_activations
from tf_lottery.sparsity import masks as mask_ops

# The shares of a kernel that all paths pass through sum to 1; rounding errors to 1e-7 at most.
_MIN_SHARE = 1e-5
# The smallest scale of the input and the flow to aim at, both within the range of float32.
_SMALLEST, _FLOW = 1e-30, 1e-4
# Names of weights that are added to signals, and are scaled down like the input.
_ADDED = ("bias", "beta", "mean", "embeddings")


def synflow(
    model: SparseModel,
    sparsity: float,
    *,
    distribution: str | Callable | dict | None = None,
    scope: str = "layer",
    floor: int = 1,
    rounds: int = 100,
    inputs: Any = None,
) -> dict[str, np.ndarray]:
    """Prunes a model before training by synaptic flow, which needs no data.

    `R` is the sum of the outputs for an input of ones if all weights are replaced by their
    magnitudes: it sums the products of weights along all paths through the network. The
    score of a weight is `|w| * dR/d|w|`, the share of the paths through it. In every
    round the lowest scores are pruned and the rest are scored again, which keeps single
    layers from being pruned completely: "Pruning neural networks without any data by
    iteratively conserving synaptic flow" (arXiv:2006.05467, section 6 and algorithm 1).
    The density after round `k` is `density ** (k / rounds)`, relative to the density that
    the model has. Pruned weights stay pruned. Weights and statistics do not change.

    As in the official code, biases, embeddings and batch normalization, statistics included,
    are replaced by their magnitudes too, and normalization is in inference mode. `R` of deep
    networks exceeds the range of float32, so the numbers are scaled, which does not change
    the ranking in ReLU networks. Scores are divided by `R`. Outputs are taken before their
    activation, such as a softmax. The input and all weights that are added to signals are
    scaled down, which also makes other activations nearly linear (ReLU6, tanh, SiLU). All
    layers compute in float32, or in float64 if `R` needs it, which Keras supports on
    TensorFlow only. On JAX the signal may grow by a factor of 1e68, as much as in a ResNet-50.

    Weights that only control gates or attention get scores near zero: exclude them. Layers
    that shift their inputs, such as rescaling to [-1, 1], have to stay outside the model.

    Args:
        model: A `SparseModel`, freshly initialized.
        sparsity: Float in [0, 1), the fraction of zeros after pruning.
        distribution: How `sparsity` is spread over the kernels with `scope="layer"`: a name
            such as `"erk"`, a function or a dict, as in `tfl.sparsify`. Defaults to `None`:
            every kernel has this sparsity.
        scope: `"layer"` ranks each kernel by itself, `"global"` all weights together, as the
            paper does. Defaults to `"layer"`.
        floor: Integer >= 0, the minimum number of weights that every kernel keeps; see `tfl.prune`.
            Defaults to `1`.
        rounds: Integer > 0. Defaults to `100`.
        inputs: Array, or nested arrays, with a batch axis, for models whose inputs have no
            fixed shape: the input of ones has the same shapes. Defaults to `None`: the shapes
            that the model was built with.

    Returns:
        Dict of kernel paths to the new masks.

    Raises:
        ValueError: If an argument is outside its range, the model is not sparse, its outputs
            do not depend on its kernels (as behind a `Softmax` layer) or exceed the range of
            the data type, or too few rounds prune all paths.

    Example:

    >>> sparse = tfl.sparsify(model)
    >>> masks = tfl.at_init.synflow(sparse, sparsity=0.9)
    >>> sparse.sparsity
    0.9
    """
    target = target_sparsities(model, sparsity, scope, distribution)
    positive_integer("rounds", rounds)
    kernels = {path: np.abs(kernel) for path, kernel in model.get_kernels().items()}
    masks = model.get_masks()
    first = model.to_matrices(masks, model.pattern)
    x, scale = ones(model.model, inputs), _SMALLEST
    with _log_flow(model, x, _fitting_dtype(model, x)) as log_flow:
        flow_of = compile_for(model, lambda *args: value_and_gradients(log_flow, *args))
        for done in range(1, rounds + 1):
            alive = [ops.convert_to_tensor(kernels[path] * masks[path]) for path in kernels]
            log_r, gradients = flow_of(alive, ops.convert_to_tensor(scale, "float32"))
            shares = _shares(alive, gradients, float(log_r))
            due = _sparsity_between(first, target, done / rounds)
            masks = keep_highest(model, shares, due, masks, floor)
            scale = _next_scale(scale, float(log_r))
    return set_masks(model, masks, floor)


def _sparsity_between(masks, target, progress):
    """Returns the sparsity when the density has moved geometrically from `masks` to `target`."""
    if isinstance(target, dict):
        return {
            path: _sparsity_between({path: masks[path]}, sparsity, progress)
            for path, sparsity in target.items()
        }
    before, after = mask_ops.density(masks), 1 - target
    if progress == 1 or before <= after:
        return target
    return 1 - before * (after / before) ** progress


def _next_scale(scale, log_flow):
    """Returns the scale of the input with which the flow is small but does not underflow."""
    growth = log_flow - math.log(scale)
    return math.exp(min(max(math.log(_FLOW) - growth, math.log(_SMALLEST)), 0.0))


def _fitting_dtype(model, x):
    """Returns float64 if the flow is too large for float32 and Keras has float64."""
    # On JAX, Keras turns float64 into float32 in normalization and where types are mixed.
    if keras.backend.backend() == "tensorflow":
        kernels = [ops.abs(kernel) for kernel in effective_kernels(model)]
        with _log_flow(model, x, "float32") as log_flow:
            if not math.isfinite(log_flow(kernels, _SMALLEST)):
                return "float64"
    return "float32"


@contextlib.contextmanager
def _log_flow(model, x, dtype):
    """Yields a function of the kernels and the scale of the input that returns `log(R)`."""
    variables = list(model.kernels.values())
    masked = {id(variable) for variable in variables}
    others = [
        weight
        for weight in model.model.weights
        if id(weight) not in masked and keras.backend.is_float_dtype(weight.dtype)
    ]

    def log_flow(kernels, scale):
        replaced = list(zip(variables, kernels, strict=True))
        # The scope discards the updates of seeds.
        with keras.StatelessScope():
            replaced += [(weight, _magnitude(weight, scale)) for weight in others]
            scaled = keras.tree.map_structure(lambda ones: _scaled(ones, scale), x)
            outputs = functional_call(model.model, replaced, scaled, training=False)
        logits = [logits_of(output) for output in keras.tree.flatten(outputs)]
        return ops.log(ops.abs(sum(ops.sum(ops.cast(y, dtype)) for y in logits)))

    with computing_in(model.model, dtype), remembered_activations(model.model) as logits_of:
        yield log_flow


def _magnitude(weight, scale):
    added = weight.name.endswith(_ADDED)
    return ops.abs(weight.value) * ops.cast(scale if added else 1.0, weight.dtype)


def _scaled(ones, scale):
    is_float = keras.backend.is_float_dtype(keras.backend.standardize_dtype(ones.dtype))
    return ones * ops.cast(scale, ones.dtype) if is_float else ones


def _shares(kernels, gradients, log_flow):
    """Returns `|w| * dR/d|w| / R` as NumPy arrays, or raises an error if there is no flow."""
    shares = [
        np.abs(hosts.to_numpy(kernel * gradient))
        for kernel, gradient in zip(kernels, gradients, strict=True)
    ]
    total = sum(np.sum(share, dtype="float64") for share in shares)
    if log_flow == -math.inf:
        raise ValueError(
            "Argument `model` must have a path of weights from its inputs to its outputs, which "
            "too few `rounds` may have pruned. Received: a model whose outputs are 0"
        )
    if not math.isfinite(total):
        raise ValueError(
            "Argument `model` must have finite outputs: from inputs to outputs the signal may "
            "grow by a factor of 1e68, or 1e300 on the TensorFlow backend. Received: a model with "
            f"log(R) = {log_flow} and shares that sum to {total}"
        )
    if total < _MIN_SHARE:
        raise ValueError(
            "Argument `model` must have outputs that grow with its kernels, without saturation or "
            "a `Softmax` layer at the end: return logits, or use the argument `activation` of the "
            f"last layer. Received: shares of the flow that sum to {total}"
        )
    return shares
