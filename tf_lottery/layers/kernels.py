"""Which weights of a layer can be pruned, at any depth."""

import collections
import dataclasses
import inspect
import math
import re

import keras

from tf_lottery._keras import all_layers
from tf_lottery.sparsity import patterns

_KERNEL_NAMES = ("kernel", "recurrent_kernel", "pointwise_kernel")
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)

IS_DEPTHWISE = "a depthwise kernel: has few weights, pruned only if `include` asks for it"
IS_EMBEDDING = "an embedding: looked up, not multiplied, pruned only if `include` asks for it"
IS_UNKNOWN = "not the kernel of a known kind of layer, pruned only if `include` asks for it"
IS_INTEGER = "not floating point, for example quantized"
NOT_INCLUDED = "not selected by `include`"
EXCLUDED = "selected by `exclude`"
NO_MATRIX = "its axes are not inputs and then outputs, as the pattern {pattern} needs them"
NOT_DIVIDED = "its {inputs} inputs and {outputs} outputs are not divided by the pattern {pattern}"


@dataclasses.dataclass(frozen=True)
class KernelSelection:
    """The weights that can be pruned, and those of rank two or more that cannot.

    Args:
        kernels: List of variables, in the order of `layer.weights`.
        skipped: Dict of variable paths to the reason why they are not pruned.
    """

    kernels: list
    skipped: dict


def find_kernels(layer, include=None, exclude=None, pattern="unstructured"):
    """Finds the kernels of a layer or model, at any depth.

    By default these are the kernels of rank two or more of dense, einsum, convolutional
    and recurrent layers and of attention, and the pointwise kernels of separable
    convolutions; never biases, normalization, embeddings or depthwise kernels.

    Args:
        layer: A built `keras.Layer` or model.
        include: What to prune instead of the default: a regular expression, searched for
            in `variable.path`; a layer class; a callable `(variable, layer) -> bool`; or a
            list of these, of which one must select the weight. Expressions and classes
            select weights of rank two or more except biases, a callable any.
        exclude: What not to prune, in the same form. Wins over `include`.
        pattern: A pattern, or its name; kernels that it does not divide are skipped.
            Defaults to `"unstructured"`.

    Returns:
        A `KernelSelection`.

    Raises:
        ValueError: If `include` or `exclude` has another form, an expression is broken or
            `pattern` is unknown.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    >>> [tuple(kernel.shape) for kernel in find_kernels(model).kernels]
    [(4, 3), (3, 2)]
    """
    included = _matcher("include", include)
    excluded = _matcher("exclude", exclude)
    pattern = patterns.get(pattern)
    kernels, skipped = [], {}
    owners = owners_of_weights(layer)
    for weight in layer.weights:
        owner = owners[id(weight)]
        is_array = len(weight.shape) >= 2 and not weight.name.endswith("bias")
        if not keras.backend.is_float_dtype(weight.dtype):
            reason = IS_INTEGER if is_array else None
        elif excluded is not None and excluded(weight, owner, is_array):
            reason = EXCLUDED
        elif included is not None:
            reason = "" if included(weight, owner, is_array) else NOT_INCLUDED
        else:
            reason = _default_reason(weight, owner)
        if reason == "":
            reason = misfit(_matrix_shape(weight, owner), pattern)
        if reason == "":
            kernels.append(weight)
        elif is_array and reason is not None:
            skipped[weight.path] = reason
    return KernelSelection(kernels, skipped)


def unique_paths(variables):
    """Returns the variables' paths, a repeated one with `#2`, `#3`, ... appended.

    Args:
        variables: List of Keras variables.

    Returns:
        List of strings, all different.
    """
    counts = collections.Counter()
    paths = []
    for variable in variables:
        counts[variable.path] += 1
        count = counts[variable.path]
        paths.append(variable.path if count == 1 else f"{variable.path}#{count}")
    return paths


def matrix_shapes(layer, kernels):
    """Returns the shapes of kernels seen as matrices (inputs, outputs), as patterns see them.

    An output unit sums over all inputs of its column. In most kernels the last axis are
    the outputs; in those of `EinsumDense`, which attention is made of, the equation tells.

    Args:
        layer: The built `keras.Layer` or model that owns the kernels, at any depth.
        kernels: List of its variables.

    Returns:
        List of pairs of integers, or of `None` for kernels that are no such matrix: depthwise
        ones, those of transposed convolutions and einsums that sum over other axes than the
        first.

    Example:

    >>> layer = keras.layers.EinsumDense("abcd,cde->abe", output_shape=(None, 8))
    >>> layer.build((None, 5, 2, 4))
    >>> matrix_shapes(layer, [layer.kernel])
    [(8, 8)]
    """
    owners = owners_of_weights(layer)
    return [_matrix_shape(kernel, owners[id(kernel)]) for kernel in kernels]


def misfit(shape, pattern):
    """Returns why a pattern cannot be applied to a kernel, an empty string if it can.

    Args:
        shape: Pair of integers, the kernel's matrix as in `matrix_shapes`, or `None`.
        pattern: A `Pattern`.
    """
    if not pattern.structured:
        return ""
    if shape is None:
        return NO_MATRIX.format(pattern=pattern)
    if not pattern.divides(shape):
        return NOT_DIVIDED.format(inputs=shape[0], outputs=shape[1], pattern=pattern)
    return ""


def _matrix_shape(kernel, owner):
    shape = tuple(kernel.shape)
    if _is_depthwise(kernel, owner) or isinstance(owner, _TRANSPOSED):
        return None
    num_inputs = len(shape) - 1
    if isinstance(owner, keras.layers.EinsumDense):
        operands, outputs = owner.equation.split("->")
        summed = [axis not in outputs for axis in operands.split(",")[1]]
        num_inputs = sum(summed)
        if not all(summed[:num_inputs]):
            return None
    if num_inputs < 1:
        return None
    return math.prod(shape[:num_inputs]), math.prod(shape[num_inputs:])


def _is_depthwise(weight, owner):
    return isinstance(owner, _DEPTHWISE) or weight.name == "depthwise_kernel"


def _default_reason(weight, owner):
    """Returns why `weight` is skipped by default, empty if it is not."""
    if _is_depthwise(weight, owner):
        return IS_DEPTHWISE
    if isinstance(owner, keras.layers.Embedding):
        return IS_EMBEDDING
    if weight.name in _KERNEL_NAMES and len(weight.shape) >= 2:
        return ""
    return IS_UNKNOWN


def owners_of_weights(layer):
    """Returns the layer that created each weight: the deepest one that lists it.

    Args:
        layer: A built `keras.Layer`.

    Returns:
        Dict of the `id` of every weight to a layer.
    """
    owners = {}
    # The walk visits a layer before its sublayers, so the deepest owner is written last.
    for sublayer in all_layers(layer):
        owners.update((id(weight), sublayer) for weight in sublayer.weights)
    return owners


def _matcher(name, rules):
    """Returns a function `(weight, owner, is_array) -> bool`, or `None` without rules."""
    if rules is None:
        return None
    checks = [
        _check(name, rule) for rule in (rules if isinstance(rules, list | tuple) else [rules])
    ]
    return lambda weight, owner, is_array: any(c(weight, owner, is_array) for c in checks)


def _check(name, rule):
    if isinstance(rule, str):
        try:
            expression = re.compile(rule)
        except re.error as error:
            raise ValueError(
                f"Argument `{name}` must hold valid regular expressions. "
                f"Received: {rule!r} ({error})"
            ) from error
        return lambda weight, owner, is_array: is_array and bool(expression.search(weight.path))
    if inspect.isclass(rule) and issubclass(rule, keras.Layer):
        return lambda weight, owner, is_array: is_array and isinstance(owner, rule)
    if callable(rule) and not inspect.isclass(rule):
        return lambda weight, owner, is_array: bool(rule(weight, owner))
    raise ValueError(
        f"Argument `{name}` must be a regular expression, a layer class, a callable "
        f"`(variable, layer) -> bool` or a list of these. Received: {rule!r}"
    )
