"""Allocation: the sparsity of each kernel that meets a budget at the least predicted damage."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Curve:
    """What pruning a kernel costs and saves, at several sparsities.

    Args:
        sparsities: List of floats, the first 0, rising.
        damages: List of floats, the increase of the loss at each sparsity, the first 0. They
            count as at least that of every lower sparsity. From the first one that is not finite
            on, the kernel cannot be pruned.
        costs: List of floats, what is left of the kernel's parameters, FLOPs or bytes.
        overhead: Float, what the first zeros add to the cost, such as a bit for every position.
            Apart from it, costs between the sparsities lie on the line between theirs. Defaults to
            `0.0`.
    """

    sparsities: list
    damages: list
    costs: list
    overhead: float = 0.0


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
    points = {name: _points(curve) for name, curve in curves.items()}
    hulls = {name: _hull(points[name]) for name in curves}
    chosen = {name: curve.sparsities[0] for name, curve in curves.items()}
    left = sum(curve.costs[0] for curve in curves.values())
    least = sum(curves[name].costs[hull[-1]] for name, hull in hulls.items())
    if budget < least:
        raise ValueError(
            f"Argument `budget` must be at least {least:,.0f}, what is left at the highest "
            "sparsities that were measured with finite damage; measure higher ones. "
            f"Received: {budget:,.0f}"
        )
    for _, name, start, end in sorted(_steps(points, hulls), key=lambda step: step[0]):
        curve = curves[name]
        if left - budget <= 0:
            break
        added = 0.0 if start else curve.overhead
        saved = curve.costs[start] - curve.costs[end] + added
        share = min((left - budget + added) / saved, 1.0)
        low, high = curve.sparsities[start], curve.sparsities[end]
        chosen[name] = round(low + share * (high - low), 12)
        left -= share * saved - added
    return chosen


def _points(curve):
    """Returns pairs of saved cost and damage, up to the first damage that is not finite."""
    points, highest = [], -math.inf
    for cost, damage in zip(curve.costs, curve.damages, strict=True):
        if not math.isfinite(damage):
            break
        highest = max(highest, damage)
        points.append((curve.costs[0] - cost, highest))
    return points


def _hull(points):
    """Returns the indices of the lower convex hull of damage against saved cost."""
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


def _steps(points, hulls):
    """Yields `(damage for each unit of cost, name, index before, index after)`."""
    for name, hull in hulls.items():
        for start, end in zip(hull, hull[1:], strict=False):
            yield _slope(points[name], start, end), name, start, end
