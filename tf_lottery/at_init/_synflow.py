"""SynFlow: prune by how much all paths flow through a weight, without any data."""

import contextlib
import math

import keras
import numpy as np
from keras import ops

from tf_lottery.at_init.inputs import ones
from tf_lottery.at_init.loss import compile_for, effective_kernels
from tf_lottery.at_init.overrides import computing_in, remembered_activations
from tf_lottery.at_init.ranking import keep_highest, set_masks, target_sparsities
from tf_lottery.checks import positive_integer
from tf_lottery.layers._functional_call import functional_call
from tf_lottery.layers.gradients import value_and_gradients
from tf_lottery.sparsity import masks as mask_ops

# Each kernel through which all paths lead has a share of 1, rounding one of 1e-7 or less.
_MIN_SHARE = 1e-5
# Scales of the input and the flow that keep both within float32.
_SMALLEST, _FLOW = 1e-30, 1e-4
# Weights that are added to signals, and have to be as small as those.
_ADDED = ("bias", "beta", "mean", "embeddings")


def synflow(
    model,
    sparsity,
    *,
    distribution=None,
    scope="layer",
    floor=1,
    rounds=100,
    inputs=None,
):
    """Prunes a model before training by synaptic flow, which needs no data.

    `R` is the sum of the outputs for an input of ones if all weights are replaced by their
    magnitudes: it sums the products of weights along all paths through the network. The
    score of a weight is `|w| * dR/d|w|`, the share of the paths through it. In every
    round the lowest scores are pruned and the rest scored again, so that no layer is cut
    off before all others are thin: "Pruning neural networks without any data by
    iteratively conserving synaptic flow" (arXiv:2006.05467, section 6 and algorithm 1).
    The density after round `k` is `density ** (k / rounds)`, counted from the density that
    the model has. Pruned weights stay pruned; weights and statistics stay as they are.

    As in the official code, biases, embeddings and batch normalization, its statistics
    included, take part with their magnitudes, and normalization is in inference. Otherwise
    the numbers are kept in range, which leaves the ranking of ReLU networks as it is: `R`
    of deep networks passes that of float32. Scores are divided by `R`; outputs are taken
    before their activation, such as a softmax; the input and all that is added to signals
    are scaled down, so that other activations than ReLU are nearly straight too (ReLU6,
    tanh, SiLU); and all layers compute in float32, or float64 if `R` asks for it, which
    Keras has on TensorFlow only: on JAX the signal may grow by 1e68, as much as in a
    ResNet-50. Weights that only control gates or attention get next to no score: exclude
    them. Layers that shift their inputs, such as rescaling to [-1, 1], have to stay outside.

    Args:
        model: A `SparseModel`, freshly initialized.
        sparsity: Float in [0, 1), the fraction of zeros after pruning.
        distribution: How `sparsity` is spread over the kernels with `scope="layer"`: a name
            such as `"erk"`, a function or a dict, as in `tfl.sparsify`. Defaults to `None`:
            every kernel has it.
        scope: `"layer"` ranks each kernel by itself, `"global"` all weights together, as the
            paper does. Defaults to `"layer"`.
        floor: Integer >= 0, how many weights every kernel keeps at least; see `tfl.prune`.
            Defaults to `1`.
        rounds: Integer > 0. Defaults to `100`.
        inputs: Array, or nested arrays, with a batch axis, whose shapes the input of ones
            takes; for models whose inputs have no fixed shape. Defaults to `None`: the
            shapes that the model was built with.

    Returns:
        Dict of kernel paths to the new masks.

    Raises:
        ValueError: If an argument is outside its range, the model is not sparse, its outputs
            do not depend on its kernels, such as behind a `Softmax` layer, or grow beyond the
            range of the data type, or too few rounds cut off all paths.

    Example:

    >>> sparse = tfl.sparsify(model)
    >>> masks = tfl.at_init.synflow(sparse, sparsity=0.9)
    >>> sparse.sparsity
    0.9
    """
    target = target_sparsities(model, sparsity, scope, distribution)
    positive_integer("rounds", rounds)
    kernels = {path: np.abs(kernel) for path, kernel in model.get_kernels().items()}
    first = masks = model.get_masks()
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
    """Returns the sparsity on the geometric way of the density from `masks` to `target`."""
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
    """Returns the scale of the input with which the flow is small, but not lost."""
    growth = log_flow - math.log(scale)
    return math.exp(min(max(math.log(_FLOW) - growth, math.log(_SMALLEST)), 0.0))


def _fitting_dtype(model, x):
    """Returns float64 if the flow is too large for float32 and Keras has float64."""
    # On JAX, Keras takes float64 for float32 in normalization and wherever types meet.
    if keras.backend.backend() == "tensorflow":
        kernels = [ops.abs(kernel) for kernel in effective_kernels(model)]
        with _log_flow(model, x, "float32") as log_flow:
            if not math.isfinite(log_flow(kernels, _SMALLEST)):
                return "float64"
    return "float32"


@contextlib.contextmanager
def _log_flow(model, x, dtype):
    """Yields the function of kernels and the scale of the input that returns `log(R)`."""
    variables = list(model.kernels.values())
    masked = {id(variable) for variable in variables}
    others = [
        weight
        for weight in model.model.weights
        if id(weight) not in masked and keras.backend.is_float_dtype(weight.dtype)
    ]

    def log_flow(kernels, scale):
        replaced = list(zip(variables, kernels, strict=True))
        # Seeds that the call may advance end up in this scope.
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
    """Returns `|w| * dR/d|w| / R` as NumPy arrays if there is such a flow."""
    shares = [
        np.abs(ops.convert_to_numpy(kernel * gradient))
        for kernel, gradient in zip(kernels, gradients, strict=True)
    ]
    total = sum(np.sum(share, dtype="float64") for share in shares)
    if log_flow == -math.inf:
        raise ValueError(
            "Argument `model` must have a path of weights from its inputs to its outputs, and "
            "`rounds` be many enough to keep one. Received: a model whose outputs are 0"
        )
    if not math.isfinite(total):
        raise ValueError(
            "Argument `model` must have finite outputs, which grow from its inputs by less than "
            "1e68, or 1e300 on the TensorFlow backend. Received: a model of which "
            f"log(R) = {log_flow} and the shares of it sum to {total}"
        )
    if total < _MIN_SHARE:
        raise ValueError(
            "Argument `model` must have outputs that grow with its kernels, and not end in a "
            "`Softmax` layer or saturate: end it with logits or with the argument `activation` "
            f"of its last layer. Received: shares of the flow that sum to {total}"
        )
    return shares
