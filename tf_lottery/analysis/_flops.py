"""`tfl.flops`: the cost of inference and training of a sparse network, in FLOPs and bytes."""

import math

import keras
import numpy as np

from tf_lottery import hosts
from tf_lottery._keras import all_layers
from tf_lottery.analysis.flops_conventions import CONVENTIONS
from tf_lottery.analysis.flops_report import FlopsReport, KernelFlops
from tf_lottery.checks import choice
from tf_lottery.layers import Masked
from tf_lottery.layers.call_trace import trace
from tf_lottery.layers.ghost_skips import GhostSkips
from tf_lottery.layers.inputs import symbolic_inputs
from tf_lottery.layers.kernel_uses import COUNTED, LEFT_OUT, kernel_uses, same_padded_shape
from tf_lottery.layers.weights import is_float_state, owners_of_weights
from tf_lottery.layers.wrappers_inside import masks_by_kernel, plain_weights
from tf_lottery.model import SparseModel, named_weights

NOT_CALLED = "its layer is not called"
READ_ELSEWHERE = "used outside of its layer's call"


def flops(
    model: keras.Layer,
    convention: str = "mac2",
    *,
    sparsities: dict | None = None,
    input_shape: tuple | list | dict | None = None,
) -> FlopsReport:
    """Counts the floating-point operations of a model's inference, sparse and dense.

    The count has the products with the kernels of dense, einsum, convolutional, separable,
    depthwise and recurrent layers, at any depth, in sequential, functional and subclassed
    models. Every call of a shared layer and every step of a recurrent layer counts. Looking up
    an embedding costs nothing; projecting back with it (`reverse=True`) is counted. Products of
    activations with each other, as in attention, are not counted. Neither are activations,
    pooling, normalization and biases, except with the convention `"micronet"`. Ghost skips of a
    sparse model are counted while they are in effect.

    Layers of other kinds, and weights that code outside of their layer multiplies with, are
    listed in `not_counted`. The attribute `coverage` says how much of the model is counted.

    Args:
        model: A `SparseModel`, whose zeros are those of its masks, or any built Keras model,
            whose zeros are those in its kernels.
        convention: `"mac"` counts multiply-accumulates, `"mac2"` two FLOPs for each, and
            `"micronet"` as the tables of "Rigging the Lottery" (arXiv:1911.11134, appendix
            H). Defaults to `"mac2"`.
        sparsities: Dict of kernel paths to sparsities in [0, 1] that replace those of the
            model; kernels that are not in the dict count as dense. Defaults to `None`.
        input_shape: Tuple, the shape of one example without the batch axis, for models that
            leave it open; a list or dict of tuples for several inputs. Defaults to `None`:
            the shape that the model was built with.

    Returns:
        A `FlopsReport`.

    Raises:
        ValueError: If `model` is not built, the shape of its input is not known, or an
            argument is outside its range.

    Example:

    >>> report = tfl.flops(tfl.sparsify(model, sparsity=0.9))
    >>> report.ratio, round(report.training("rigl") / report.training("dense"), 3)
    (0.1, 0.103)
    """
    if not isinstance(model, keras.Layer) or not model.built:
        raise ValueError(f"Argument `model` must be a built Keras model. Received: {model!r}")
    choice("convention", convention, CONVENTIONS)
    layer = _wrapped(model)
    inputs = symbolic_inputs(layer, input_shape)
    batch = keras.tree.flatten(inputs)[0].shape[0]
    found = trace(layer, inputs, COUNTED)
    uses, counted = _count_uses(found.calls, convention)
    named = named_weights(model if isinstance(model, SparseModel) else layer)
    paths = {id(weight): name for name, weight in named.items()}
    nonzeros, rows = _nonzeros(model, uses), []
    for key, (kernel, times) in uses.items():
        per_example = times / batch if times % batch else times // batch
        shape = tuple(kernel.shape)
        rows.append(KernelFlops.count(convention, paths[key], shape, nonzeros[key], per_example))
    ghosts = active_ghosts(model)
    rows += _ghost_rows(layer, ghosts, uses, batch, convention)
    not_counted = _not_counted(layer, found.calls, counted, paths)
    for variable in found.read_elsewhere:
        path = paths.get(id(variable))
        if id(variable) in uses or not_counted.get(path) == NOT_CALLED:
            not_counted[path] = READ_ELSEWHERE
    size = sum(math.prod(named[path].shape) for path in not_counted)
    num_parameters = sum(math.prod(weight.shape) for weight in plain_weights(layer))
    num_parameters += sum(branch.count_params() for _, branch in ghosts)
    report = FlopsReport(
        layer.name, convention, rows, not_counted, num_parameters, num_not_counted=size
    )
    return report if sparsities is None else report.with_sparsities(sparsities)


def active_ghosts(model):
    """Returns the skips and branches of a model's ghost skips that are in effect; see `GhostSkips`.

    Args:
        model: A Keras model, sparse or not.
    """
    ghosts = model.find_part(GhostSkips) if isinstance(model, SparseModel) else None
    return [] if ghosts is None else ghosts.active_branches


def _ghost_rows(layer, ghosts, uses, batch, convention):
    """Returns the rows of the branches of ghost skips, which are dense."""
    layers, rows = all_layers(layer), []
    for skip, branch in ghosts:
        kernel = branch.layers[0].kernel
        # A branch has the outputs of its convolution.
        times = uses[id(layers[skip["index"]].kernel)][1]
        per_example = times / batch if times % batch else times // batch
        shape, path = tuple(kernel.shape), f"{branch.name}/kernel"
        rows.append(KernelFlops.count(convention, path, shape, math.prod(shape), per_example))
    return rows


def _wrapped(model):
    """Returns the layer inside a sparse model or a wrapper, or the model itself."""
    if isinstance(model, SparseModel):
        return model.model
    return model.layer if isinstance(model, Masked) else model


def _count_uses(calls, convention):
    """Returns every kernel with its uses in all calls, and the ids of the counted layers."""
    uses, counted = {}, set()
    for call in calls:
        output_shape = call.output_shape
        if convention == "micronet":
            output_shape = same_padded_shape(call.layer, call.input_shape, output_shape)
        for kernel, times in kernel_uses(call.layer, call.input_shape, output_shape):
            counted.add(id(call.layer))
            uses[id(kernel)] = kernel, uses.get(id(kernel), (kernel, 0))[1] + times
    return uses, counted


def _nonzeros(model, uses):
    """Returns how many weights of every kernel are not zero."""
    masks = masks_by_kernel(model)
    if masks:
        # A kernel without a mask counts as dense, even if some of its weights are zero.
        counted = {key: masks.get(key) for key in uses}
    else:
        counted = {key: kernel for key, (kernel, _) in uses.items()}
    return {
        key: math.prod(uses[key][0].shape)
        if variable is None
        else int(np.count_nonzero(hosts.to_numpy(variable)))
        for key, variable in counted.items()
    }


def _no_rule(layer):
    """Returns why a layer of a kind that is counted has no `kernel_uses`."""
    if isinstance(layer, keras.layers.RNN):
        return f"no rule for recurrent cells of type {type(layer.cell).__name__}"
    return f"no rule for layers quantized to {layer.quantization_mode}"


def _not_counted(layer, calls, counted, paths):
    """Returns a dict of the paths of weights that are not counted to the reasons."""
    called = {id(call.layer) for call in calls}
    reasons, settled = {}, set()
    for sublayer in all_layers(layer):
        if id(sublayer) in counted or isinstance(sublayer, LEFT_OUT):
            reason = None
        elif id(sublayer) in called:
            reason = _no_rule(sublayer)
        elif isinstance(sublayer, COUNTED):
            reason = NOT_CALLED
        else:
            reason = f"no rule for layers of type {type(sublayer).__name__}"
        own = {id(weight) for weight in sublayer.weights} - settled
        reasons.update(dict.fromkeys(own, reason))
        # Sublayers come after their layer and replace its reason, unless the layer has a rule.
        if isinstance(sublayer, COUNTED + LEFT_OUT):
            settled |= own
        elif isinstance(sublayer, Masked):
            masks = own - {id(weight) for weight in sublayer.layer.weights}
            reasons.update(dict.fromkeys(masks))
            settled |= masks
    owners = owners_of_weights(layer)
    state = {id(w) for w in layer.weights if is_float_state(w, owners[id(w)])}
    return {paths[k]: reason for k, reason in reasons.items() if reason and k not in state}
