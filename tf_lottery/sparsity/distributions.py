"""Distributions: the sparsity of each layer, given the sparsity of all layers together.

Every function takes a dict of paths to kernel shapes and the sparsity of all of them, and
returns a dict of paths to sparsities. `custom` sets the sparsity of some layers; the other
layers alone then have the asked sparsity.
"""

import math
import numbers
import re

from tf_lottery.checks import fraction, named_function, nearest


def uniform(
    shapes: dict[str, tuple],
    sparsity: float,
    dense_first: bool = False,
    custom: dict[str, float] | None = None,
) -> dict[str, float]:
    """Gives every layer the same sparsity.

    Args:
        shapes: Dict of paths to shapes.
        sparsity: Float in [0, 1), the fraction of zeros.
        dense_first: Whether the first layer stays dense, as in "Rigging the Lottery"
            (arXiv:1911.11134, section 3); the other layers do not become sparser to
            compensate. Defaults to `False`.
        custom: Dict of paths to sparsities in [0, 1). Defaults to `None`.

    Returns:
        Dict of paths to floats in [0, 1).

    Raises:
        ValueError: If a number is outside its range or a path of `custom` is unknown.

    Example:

    >>> uniform({"hidden": (4, 8), "output": (8, 2)}, sparsity=0.9, dense_first=True)
    {'hidden': 0.0, 'output': 0.9}
    """
    custom = _checked(shapes, sparsity, custom)
    result = {**dict.fromkeys(shapes, float(sparsity)), **custom}
    first = next(iter(shapes))
    if dense_first and first not in custom:
        result[first] = 0.0
    return result


def erdos_renyi(
    shapes: dict[str, tuple], sparsity: float, custom: dict[str, float] | None = None
) -> dict[str, float]:
    """Gives layers with many inputs and outputs a higher sparsity than narrow ones.

    The density of a layer is `epsilon * (inputs + outputs) / (inputs * outputs)`, that of
    the random graphs in "Scalable training of artificial neural networks with adaptive
    sparse connectivity" (arXiv:1707.04780, equation 1). For convolutions only the channels
    count, which are the last two axes; with `erdos_renyi_kernel` all axes count.

    Args:
        shapes: Dict of paths to shapes of two or more axes.
        sparsity: Float in [0, 1), the fraction of zeros over all layers.
        custom: Dict of paths to sparsities in [0, 1). Defaults to `None`.

    Returns:
        Dict of paths to floats in [0, 1).

    Raises:
        ValueError: If a number is outside its range, a shape has fewer than two axes or a
            path of `custom` is unknown.

    Example:

    >>> erdos_renyi({"hidden": (784, 300), "output": (300, 100)}, sparsity=0.9)
    {'hidden': 0.9176..., 'output': 0.7617...}
    """
    custom = _checked(shapes, sparsity, custom, min_rank=2)
    raw = {path: sum(shape[-2:]) / math.prod(shape[-2:]) for path, shape in shapes.items()}
    return {**_scaled(shapes, sparsity, raw, custom), **custom}


def erdos_renyi_kernel(
    shapes: dict[str, tuple],
    sparsity: float,
    power_scale: float = 1.0,
    custom: dict[str, float] | None = None,
) -> dict[str, float]:
    """Gives layers a sparsity that grows with all axes of their kernels.

    The density of a layer is `epsilon * (sum(shape) / prod(shape)) ** power_scale`, the
    ERK of "Rigging the Lottery" (arXiv:1911.11134, section 3). As in the authors' code,
    `epsilon` is the number with which all layers together have the asked sparsity. A layer
    whose density would exceed 1 stays dense, and the other layers become sparser to
    compensate.

    Args:
        shapes: Dict of paths to shapes of two or more axes.
        sparsity: Float in [0, 1), the fraction of zeros over all layers.
        power_scale: Float >= 0; 0 is uniform, 1 is ERK. Defaults to `1.0`.
        custom: Dict of paths to sparsities in [0, 1). Defaults to `None`.

    Returns:
        Dict of paths to floats in [0, 1).

    Raises:
        ValueError: If a number is outside its range, a shape has fewer than two axes or a
            path of `custom` is unknown.

    Example:

    >>> shapes = {"a": (784, 300), "b": (300, 100), "c": (100, 10)}
    >>> erdos_renyi_kernel(shapes, sparsity=0.9)
    {'a': 0.9204..., 'b': 0.7698..., 'c': 0.0}
    """
    custom = _checked(shapes, sparsity, custom, min_rank=2)
    is_number = isinstance(power_scale, numbers.Real) and not isinstance(power_scale, bool)
    if not is_number or not power_scale >= 0:
        raise ValueError(
            f"Argument `power_scale` must be a number >= 0. Received: power_scale={power_scale!r}"
        )
    raw = {path: (sum(shape) / math.prod(shape)) ** power_scale for path, shape in shapes.items()}
    return {**_scaled(shapes, sparsity, raw, custom), **custom}


_DISTRIBUTIONS = {
    "uniform": uniform,
    "er": erdos_renyi,
    "erdos_renyi": erdos_renyi,
    "erk": erdos_renyi_kernel,
    "erdos_renyi_kernel": erdos_renyi_kernel,
}


def get(identifier):
    """Returns the distribution that `identifier` names.

    Args:
        identifier: A function `(shapes, sparsity) -> dict`, or one of `"uniform"`,
            `"er"` or `"erdos_renyi"`, `"erk"` or `"erdos_renyi_kernel"`.

    Returns:
        The function.

    Raises:
        ValueError: If `identifier` is neither.
    """
    return named_function("distribution", identifier, _DISTRIBUTIONS)


def spread(distribution, shapes, sparsity):
    """Returns the sparsity of every kernel by any kind of distribution.

    Args:
        distribution: What `get` takes, or a dict of paths or regular expressions to floats in
            [0, 1); kernels that no key matches have `sparsity`.
        shapes: Dict of paths to shapes.
        sparsity: Float in [0, 1), the fraction of zeros.

    Returns:
        Dict of paths to floats.

    Raises:
        ValueError: If a sparsity is outside its range, or there is not one for every kernel.

    Example:

    >>> spread({"output": 0.5}, {"hidden": (8, 10), "output": (10, 2)}, sparsity=0.9)
    {'hidden': 0.9, 'output': 0.5}
    """
    if isinstance(distribution, dict):
        result = values_by_path("distribution", distribution, list(shapes), sparsity)
    else:
        result = get(distribution)(shapes, sparsity)
        if set(result) != set(shapes):
            raise ValueError(
                "Argument `distribution` must return a sparsity for every kernel, "
                f"{sorted(shapes)}. Received: {sorted(result)}"
            )
    return {path: fraction(f"distribution[{path!r}]", value) for path, value in result.items()}


def values_by_path(name, values, paths, default=None):
    """Looks up the value of every path in a dict with paths or regular expressions as keys.

    Args:
        name: String, the argument's name for messages.
        values: Dict. The key that equals a path counts for it, else the first key that is
            found in the path as a regular expression.
        paths: List of kernel paths.
        default: The value where no key matches. Defaults to `None`: every path needs a key.

    Returns:
        Dict of paths to values.

    Raises:
        ValueError: If a path has no value or a key is not used.

    Example:

    >>> values_by_path("rate", {"output": 0.1, ".": 0.2}, ["hidden/kernel", "output/kernel"])
    {'hidden/kernel': 0.2, 'output/kernel': 0.1}
    """
    rules = {
        path: path if path in values else next((r for r in values if _found(name, r, path)), None)
        for path in paths
    }
    for path, rule in rules.items():
        if rule is None and default is None:
            raise ValueError(
                f"Argument `{name}` must have an expression for every kernel; add '.' for the "
                f"rest. Received: {name}={values}, none fits {path!r}"
            )
    useless = set(values) - set(rules.values())
    if useless:
        near = {rule: nearest(rule, paths) for rule in sorted(useless)}
        raise ValueError(
            f"Argument `{name}` must only have expressions that are used for a kernel. "
            f"Received: {near}, of no use, each with the nearest of {list(paths)}"
        )
    return {path: default if rule is None else values[rule] for path, rule in rules.items()}


def _found(name, expression, path):
    try:
        return re.search(expression, path)
    except (re.error, TypeError) as error:
        raise ValueError(
            f"Argument `{name}` must have valid regular expressions. "
            f"Received: {expression!r} ({error})"
        ) from error


def _checked(shapes, sparsity, custom, min_rank=0):
    """Checks the arguments of a distribution and returns `custom` as a dict of floats."""
    if not shapes:
        raise ValueError("Argument `shapes` must hold at least one shape. Received: {}")
    fraction("sparsity", sparsity)
    for path, shape in shapes.items():
        if len(shape) < min_rank:
            raise ValueError(
                f"Argument `shapes[{path!r}]` must have at least {min_rank} axes; leave such "
                f"weights dense or use 'uniform'. Received: {tuple(shape)}"
            )
    unknown = set(custom or {}) - set(shapes)
    if unknown:
        raise ValueError(
            f"Argument `custom` must have paths of `shapes`, {sorted(shapes)}. "
            f"Received: {sorted(unknown)}"
        )
    return {path: fraction(f"custom[{path!r}]", value) for path, value in (custom or {}).items()}


def _scaled(shapes, sparsity, raw, custom):
    """Returns `1 - epsilon * raw`, with the `epsilon` that keeps the asked number of weights.

    Follows `get_sparsities_erdos_renyi` of the official RigL repository: all layers with the
    highest raw density become dense in the same step, and the zeros of each layer are
    rounded down to whole weights.
    """
    sizes = {path: math.prod(shape) for path, shape in shapes.items() if path not in custom}
    budget = sum(size - math.floor(sparsity * size) for size in sizes.values())
    free, epsilon = dict(sizes), 0.0
    while free:
        spent = sum(size for path, size in sizes.items() if path not in free)
        epsilon = (budget - spent) / sum(raw[path] * size for path, size in free.items())
        highest = max(raw[path] for path in free)
        if epsilon * highest <= 1:
            break
        free = {path: size for path, size in free.items() if raw[path] != highest}
    return {path: 1 - epsilon * raw[path] if path in free else 0.0 for path in sizes}
