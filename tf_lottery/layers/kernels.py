"""Finds the weights of a layer that can be pruned, at any depth."""

import dataclasses
import inspect
import math
import re
from typing import Any

import keras

from tf_lottery._keras import is_state
from tf_lottery.checks import nearest
from tf_lottery.layers.weights import is_float_state, owners_of_weights
from tf_lottery.sparsity import patterns
from tf_lottery.sparsity.patterns import Pattern

_KERNEL_NAMES = ("kernel", "recurrent_kernel", "pointwise_kernel")
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)

IS_DEPTHWISE = "a depthwise kernel: has few weights, pruned only if `include` asks for it"
IS_EMBEDDING = "the table of an embedding: pruned only if `include` asks for it"
IS_UNKNOWN = "not the kernel of a known kind of layer, pruned only if `include` asks for it"
IS_FROZEN = "frozen, so not trained: pruned only if `include` asks for it"
IS_EMPTY = "empty: its layer has no inputs or no outputs"
IS_INTEGER = "not floating point, for example quantized"
NOT_INCLUDED = "not selected by `include`"
EXCLUDED = "selected by `exclude`"
NO_MATRIX = "its axes are not inputs followed by outputs, which the pattern {pattern} needs"
NOT_DIVIDED = "its {inputs} inputs and {outputs} outputs are not divided by the pattern {pattern}"


@dataclasses.dataclass(frozen=True)
class KernelSelection:
    """The weights to prune, and the weights of rank two or more that are skipped.

    Args:
        kernels: List of variables, in the order of `layer.weights`.
        skipped: Dict of variable paths to the reason why they are not pruned.
    """

    kernels: list
    skipped: dict


def find_kernels(
    layer: keras.Layer,
    include: Any = None,
    exclude: Any = None,
    pattern: str | Pattern = "unstructured",
    frozen: bool = False,
) -> KernelSelection:
    """Finds the kernels of a layer or model, at any depth.

    By default, it selects the kernels of rank two or more of dense, einsum, convolutional,
    recurrent and attention layers, and the pointwise kernels of separable convolutions. It never
    selects biases, normalization weights, embeddings, depthwise or frozen kernels by default.

    Args:
        layer: A built `keras.Layer` or model.
        include: What to prune instead of the default: a regular expression, searched for
            in `variable.path`; a layer class; a callable `(variable, layer) -> bool`; or a
            list of these, of which one must select the weight. Expressions and classes select
            only weights of rank two or more except biases. Classes also leave out non-trainable
            state. A callable can select any weight. Defaults to `None`.
        exclude: What not to prune, in the same form. It overrides `include`. Defaults to `None`.
        pattern: A pattern, or its name. Kernels that it does not divide are skipped.
            Defaults to `"unstructured"`.
        frozen: Whether the default includes frozen kernels. Defaults to `False`.

    Returns:
        A `KernelSelection`.

    Raises:
        ValueError: If `include` or `exclude` is of another type, is an invalid expression or
            selects no weight, or if `pattern` is unknown.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    >>> [tuple(kernel.shape) for kernel in find_kernels(model).kernels]
    [(4, 3), (3, 2)]
    """
    weights, owners = layer.weights, owners_of_weights(layer)
    pairs = [(weight, owners[id(weight)]) for weight in weights]
    included = _selected("include", include, pairs)
    excluded = _selected("exclude", exclude, pairs)
    pattern = patterns.get(pattern)
    kernels, skipped = [], {}
    for weight, owner in pairs:
        if not keras.backend.is_float_dtype(weight.dtype):
            reason = IS_INTEGER if _is_array(weight) else None
        elif 0 in weight.shape:
            reason = IS_EMPTY
        elif id(weight) in excluded:
            reason = EXCLUDED
        elif include is not None:
            reason = "" if id(weight) in included else NOT_INCLUDED
        else:
            reason = _default_reason(weight, owner, frozen)
        if reason == "":
            reason = misfit(_matrix_shape(weight, owner), pattern)
        if reason == "":
            kernels.append(weight)
        elif _is_array(weight) and reason is not None and not is_float_state(weight, owner):
            skipped[weight.path] = reason
    return KernelSelection(kernels, skipped)


def matrix_shapes(
    layer: keras.Layer, kernels: list[keras.Variable]
) -> list[tuple[int, int] | None]:
    """Returns the shapes of kernels as matrices (inputs, outputs), to which patterns apply.

    An output unit sums over all inputs of its column. In most kernels, the last axis is the
    outputs. In kernels of `EinsumDense`, which attention uses, the equation defines the axes.

    Args:
        layer: The built `keras.Layer` or model that owns the kernels, at any depth.
        kernels: List of its variables.

    Returns:
        List with a pair of integers for every kernel, or `None` for a kernel without such a
        matrix: depthwise kernels, kernels of transposed convolutions, and einsum kernels that
        sum over axes other than the first ones.

    Example:

    >>> layer = keras.layers.EinsumDense("abcd,cde->abe", output_shape=(None, 8))
    >>> layer.build((None, 5, 2, 4))
    >>> matrix_shapes(layer, [layer.kernel])
    [(8, 8)]
    """
    owners = owners_of_weights(layer)
    return [_matrix_shape(kernel, owners[id(kernel)]) for kernel in kernels]


def misfit(shape, pattern):
    """Returns why a pattern cannot be applied to a kernel, or an empty string if it can.

    Args:
        shape: Pair of integers or `None`, the kernel's entry in `matrix_shapes`.
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


def _is_array(weight):
    return len(weight.shape) >= 2 and not weight.name.endswith("bias")


def _default_reason(weight, owner, frozen):
    """Returns why `weight` is skipped by default, or an empty string if it is not."""
    if _is_depthwise(weight, owner):
        return IS_DEPTHWISE
    if isinstance(owner, keras.layers.Embedding):
        return IS_EMBEDDING
    if weight.name not in _KERNEL_NAMES or len(weight.shape) < 2:
        return IS_UNKNOWN
    return "" if frozen or weight.trainable else IS_FROZEN


def listed_rules(rules):
    """Returns the rules of `include` or `exclude` as a list.

    Args:
        rules: A rule, a list of them or `None`.
    """
    if rules is None:
        return []
    return list(rules) if isinstance(rules, list | tuple) else [rules]


def _selected(name, rules, pairs):
    """Returns the set of the `id` of every weight that at least one rule selects.

    Args:
        name: String, the argument's name for messages.
        rules: A rule, a list of them or `None`.
        pairs: List of pairs of a weight and the layer that created it.

    Raises:
        ValueError: If a rule is of another type or selects no weight.
    """
    selected = set()
    for rule in listed_rules(rules):
        selects = _make_selector(name, rule)
        found = {id(weight) for weight, owner in pairs if selects(weight, owner)}
        if not found:
            raise ValueError(
                f"Argument `{name}` must have rules that fit at least one weight of rank two or "
                f"more, except biases. Received: {rule!r}, which fits none; {_hint(rule, pairs)}"
            )
        selected |= found
    return selected


def _hint(rule, pairs):
    """Returns a hint at what a rule that fits nothing was probably meant to select."""
    if inspect.isclass(rule):
        names = sorted({type(owner).__name__ for weight, owner in pairs if _is_array(weight)})
        return f"the layers are {names}"
    paths = [weight.path for weight, _ in pairs if _is_array(weight)]
    near = nearest(rule, paths) if isinstance(rule, str) else []
    return f"the nearest are {near}" if near else f"the weights are {paths}"


def _make_selector(name, rule):
    """Returns a function `(weight, owner) -> bool` for a rule."""
    if isinstance(rule, str):
        try:
            expression = re.compile(rule)
        except re.error as error:
            raise ValueError(
                f"Argument `{name}` must hold valid regular expressions. "
                f"Received: {rule!r} ({error})"
            ) from error
        return lambda weight, owner: _is_array(weight) and bool(expression.search(weight.path))
    if inspect.isclass(rule) and issubclass(rule, keras.Layer):
        return lambda weight, owner: (
            _is_array(weight) and isinstance(owner, rule) and not is_state(owner, weight)
        )
    if callable(rule) and not inspect.isclass(rule):
        return lambda weight, owner: bool(rule(weight, owner))
    raise ValueError(
        f"Argument `{name}` must be a regular expression, a layer class, a callable "
        f"`(variable, layer) -> bool` or a list of these. Received: {rule!r}"
    )
