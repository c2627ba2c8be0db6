"""Allocation: the sparsity of each kernel that meets a budget at the least predicted damage."""

import bisect
import dataclasses


@dataclasses.dataclass(frozen=True)
class Curve:
    """What pruning a kernel costs and saves, at several sparsities.

    Args:
        sparsities: List of floats, the first 0, rising.
        damages: List of floats, the increase of the loss at each sparsity. They count as at least
            that of every lower sparsity.
        costs: List of floats, what is left of the kernel's parameters, FLOPs or bytes.
        proportional: Whether costs between the sparsities lie on the line between theirs. Defaults
            to `True`.
    """

    sparsities: list
    damages: list
    costs: list
    proportional: bool = True


def allocate(curves: dict[str, Curve], budget: float) -> dict[str, float]:
    """Returns the sparsity of each kernel that brings the costs down to a budget.

    The damages of kernels are taken to add up. Of every curve, the lower convex hull counts; step
    by step, the kernel is pruned further that loses least for each unit of cost that it saves. The
    last step is made in part, so that the budget is met exactly. This solves the relaxed
    multiple-choice knapsack problem (Sinha and Zoltners, 1979).

    Args:
        curves: Dict of the names of kernels to `Curve`.
        budget: Float, what may be left of all costs together.

    Returns:
        Dict of names to sparsities.

    Raises:
        ValueError: If the highest sparsities do not meet the budget.

    Example:

    >>> easy, hard = Curve([0, 0.5], [0.0, 0.1], [10, 5]), Curve([0, 0.5], [0.0, 0.4], [10, 5])
    >>> allocate({"easy": easy, "hard": hard}, budget=14)
    {'easy': 0.5, 'hard': 0.1}
    """
    hulls = {name: _hull(curve) for name, curve in curves.items()}
    chosen = {name: curve.sparsities[0] for name, curve in curves.items()}
    left = sum(curve.costs[0] for curve in curves.values())
    least = sum(curves[name].costs[hull[-1]] for name, hull in hulls.items())
    if budget < least:
        raise ValueError(
            f"Argument `budget` must be at least {least:,.0f}, what is left at the highest "
            f"sparsities that were measured; measure higher ones. Received: {budget:,.0f}"
        )
    for _, name, start, end in sorted(_steps(curves, hulls), key=lambda step: step[0]):
        curve = curves[name]
        saved = curve.costs[start] - curve.costs[end]
        if left - budget <= 0:
            break
        share = min((left - budget) / saved, 1.0) if curve.proportional else 1.0
        low, high = curve.sparsities[start], curve.sparsities[end]
        chosen[name] = round(low + share * (high - low), 12)
        left -= share * saved
    return chosen


def predicted(curves: dict[str, Curve], sparsities: dict[str, float]) -> float:
    """Returns the damage of pruning kernels, the sum of those that the curves give for each.

    Args:
        curves: Dict of the names of kernels to `Curve`.
        sparsities: Dict of names to floats. Damages between those of a curve are interpolated.

    Example:

    >>> predicted({"kernel": Curve([0, 0.5], [0.0, 0.4], [10, 5])}, {"kernel": 0.25})
    0.2
    """
    total = 0.0
    for name, sparsity in sparsities.items():
        curve = curves[name]
        i = min(max(bisect.bisect_left(curve.sparsities, sparsity), 1), len(curve.sparsities) - 1)
        low, high = curve.sparsities[i - 1 : i + 1]
        first, last = curve.damages[i - 1 : i + 1]
        total += first + (sparsity - low) / (high - low) * (last - first)
    return total


def _hull(curve):
    """Returns the indices of the lower convex hull of damage against saved cost."""
    damages, highest = [], float("-inf")
    for damage in curve.damages:
        highest = max(highest, damage)
        damages.append(highest)
    points = [(curve.costs[0] - c, d) for c, d in zip(curve.costs, damages, strict=True)]
    hull = [0]
    for i in range(1, len(points)):
        if points[i][0] <= points[hull[-1]][0]:
            continue  # Storing a few zeros can take more bytes than none.
        while len(hull) > 1 and _slope(points, *hull[-2:]) >= _slope(points, hull[-1], i):
            hull.pop()
        hull.append(i)
    return hull


def _slope(points, first, second):
    (x, y), (x2, y2) = points[first], points[second]
    return (y2 - y) / (x2 - x)


def _steps(curves, hulls):
    """Yields `(damage for each unit of cost, name, index before, index after)`."""
    for name, hull in hulls.items():
        curve = curves[name]
        damages = [max(curve.damages[: i + 1]) for i in range(len(curve.damages))]
        for start, end in zip(hull, hull[1:], strict=False):
            points = [(-cost, damage) for cost, damage in zip(curve.costs, damages, strict=True)]
            yield _slope(points, start, end), name, start, end
