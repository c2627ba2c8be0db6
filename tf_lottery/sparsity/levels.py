"""How much iterative pruning prunes at each level."""

from tf_lottery.checks import fraction
from tf_lottery.sparsity.distributions import values_by_path
from tf_lottery.sparsity.schedules import Geometric


def check_rate(rate, scope):
    """Checks the share of surviving weights that a level prunes.

    Args:
        rate: Float in (0, 1); with `scope="layer"` also a dict of regular expressions to
            floats in [0, 1).
        scope: `"global"` or `"layer"`.

    Returns:
        `rate`, its numbers as floats.

    Raises:
        ValueError: If it is out of range or a dict with `scope="global"`.
    """
    if isinstance(rate, dict) and scope != "layer":
        raise ValueError(
            "Argument `rate` must be one number with `scope='global'`; use `scope='layer'` for "
            f"one per layer. Received: rate={rate}"
        )
    rates = rate if isinstance(rate, dict) else {"": rate}
    rates = {rule: fraction("rate", value) for rule, value in rates.items()}
    if max(rates.values(), default=0) == 0:
        raise ValueError(f"Argument `rate` must be above 0. Received: rate={rate}")
    return rates if isinstance(rate, dict) else rates[""]


def rates_by_path(rate, paths):
    """Returns the rate of every kernel.

    Args:
        rate: Float, or dict of regular expressions to floats. Of several expressions that are
            found in a path, the first one counts.
        paths: List of kernel paths.

    Returns:
        Dict of paths to floats.

    Raises:
        ValueError: If a path has no rate, or an expression is not used.

    Example:

    >>> rates_by_path({"output": 0.1, ".": 0.2}, ["hidden/kernel", "output/kernel"])
    {'hidden/kernel': 0.2, 'output/kernel': 0.1}
    """
    if not isinstance(rate, dict):
        return dict.fromkeys(paths, rate)
    return values_by_path("rate", rate, paths)


def level_sparsity(rate, level, densities, scope):
    """Returns the sparsity at a level, relative to the dense network.

    Args:
        rate: Float, or dict of regular expressions to floats.
        level: Integer >= 0, how many times the network has been pruned.
        densities: Dict of kernel paths to `(density, size)` at level 0.
        scope: `"layer"`, or another one, such as `"global"`.

    Returns:
        Dict of paths to floats with `scope="layer"`, else a float.
    """
    if scope != "layer":
        kept = sum(density * size for density, size in densities.values())
        density = kept / sum(size for _, size in densities.values())
        return 1.0 - density * (1.0 - Geometric(rate)(level))
    return {
        path: 1.0 - densities[path][0] * (1.0 - Geometric(path_rate)(level))
        for path, path_rate in rates_by_path(rate, list(densities)).items()
    }
