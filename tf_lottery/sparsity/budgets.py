"""Chooses channels within a budget of FLOPs or parameters."""

import dataclasses
import math

import numpy as np

from tf_lottery.sparsity.groups import Accounting
from tf_lottery.sparsity.schedules import Polynomial
from tf_lottery.sparsity.selection import Bundles, check_numbers

KINDS = ("flops", "parameters")


def check_budget(budget: dict[str, float]) -> dict[str, float]:
    """Returns a budget, or raises a `ValueError` if it is none.

    Args:
        budget: Dict of `"flops"`, `"parameters"` or both to the fraction that is left of them,
            in (0, 1].

    Example:

    >>> check_budget({"flops": 0.5})
    {'flops': 0.5}
    """
    is_fraction = isinstance(budget, dict) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1
        for value in budget.values()
    )
    if not is_fraction or not budget or not set(budget) <= set(KINDS):
        raise ValueError(
            "Argument `budget` must be a dict of 'flops', 'parameters' or both to the fraction "
            f"of them that may be left, above 0 and at most 1. Received: budget={budget!r}"
        )
    return budget


@dataclasses.dataclass(frozen=True)
class GradualBudget:
    """A budget that falls from everything to what may be left at the end.

    What is removed grows with the cubic of `tfl.sparsity.Polynomial` (arXiv:1710.01878, equation
    1).

    Args:
        budget: See `check_budget`. The budget at `end_step`.
        end_step: Integer. The step at which `budget` is reached.
        begin_step: Integer >= 0. The step up to which everything may be left. Defaults to `0`.

    Example:

    >>> falling = GradualBudget({"flops": 0.5}, end_step=100)
    >>> falling(0), falling(50), falling(100)
    ({'flops': 1.0}, {'flops': 0.5625}, {'flops': 0.5})
    """

    budget: dict[str, float]
    end_step: int
    begin_step: int = 0

    def __call__(self, step: int) -> dict[str, float]:
        """Returns the budget at `step`."""
        if step >= self.end_step:
            # Exactly: 1 - (1 - 0.1) is below 0.1.
            return self.budget
        return {
            kind: 1 - Polynomial(1 - left, self.end_step, self.begin_step)(step)
            for kind, left in self.budget.items()
        }


def keep_within_budget(
    accounting: Accounting,
    budget: dict[str, float],
    scores: dict[str, np.ndarray],
    ranked: list[list[str]],
    *,
    alive: dict[str, np.ndarray] | None = None,
    round_to: int = 1,
    floors: dict[str, int] | None = None,
) -> dict[str, np.ndarray]:
    """Keeps the channels with the highest scores, as many as a budget allows.

    The groups of a list of `ranked` are ranked together, and the lists lose the same fraction of
    their channels. When the next channel of that order would exceed the budget, channels of other
    groups are kept as long as they fit. So no further channel could be kept.

    Args:
        accounting: `Accounting` of all groups.
        budget: See `check_budget`. The fractions are those of the unpruned network.
        scores: Dict of the names of groups to float arrays of shape `(width,)`.
        ranked: List of lists of names: which groups are ranked together.
        alive: Dict of names to boolean arrays, false for channels that must not be kept. Defaults
            to `None`: all may be kept.
        round_to: Integer > 0; see `Channel`. Defaults to `1`.
        floors: Dict of names to the number of channels that a group keeps at least. Defaults to
            `None`: one channel.

    Returns:
        Dict of names to boolean arrays of shape `(width,)`.

    Raises:
        ValueError: If the floors alone exceed the budget, or a score is not a number.

    Example:

    >>> shapes = {"kernel": (3, 2), "bias": (2,), "gamma": (2,), "next": (2, 4)}
    >>> accounting = Accounting([units], shapes)
    >>> scores = {"units": np.array([1.0, 2.0])}
    >>> keep_within_budget(accounting, {"parameters": 0.5}, scores, [["units"]])
    {'units': array([False,  True])}
    """
    bundles = {}
    for name, array in scores.items():
        mask = None if alive is None else alive[name]
        check_numbers("scores", array if mask is None else array[mask])
        bundles[name] = Bundles.of(array, round_to, mask)
    limits = {kind: value * _cost(accounting, kind, {}) for kind, value in budget.items()}
    floors = dict.fromkeys(scores, 1) if floors is None else floors
    counts = {
        name: min(math.ceil(floors[name] / round_to), len(bundle.starts))
        for name, bundle in bundles.items()
    }

    def fits(counts):
        kept = {name: bundles[name].lengths[:count].sum() for name, count in counts.items()}
        return all(_cost(accounting, kind, kept) <= limit for kind, limit in limits.items())

    if not fits(counts):
        _refuse(accounting, budget, bundles, counts)
    order = _order(bundles, scores, ranked, counts)
    length = _longest_prefix(order, counts, fits)
    counts = _filled(order[length:], _added(counts, order[:length]), fits)
    return {name: bundles[name].mask(count) for name, count in counts.items()}


def _cost(accounting, kind, kept):
    return getattr(accounting, kind)(kept)


def _refuse(accounting, budget, bundles, counts):
    """Raises the error of a budget that is too small."""
    kept = {name: int(bundles[name].lengths[:count].sum()) for name, count in counts.items()}
    least = {
        kind: round(_cost(accounting, kind, kept) / _cost(accounting, kind, {}), 4)
        for kind in budget
    }
    raise ValueError(
        f"Argument `budget` must be at least {least}: so much is left if every group keeps only "
        f"its floor of channels, since a group must not vanish. Received: budget={budget}"
    )


def _order(bundles, scores, ranked, counts):
    """Returns the names of groups in the order in which their bundles are kept.

    A bundle's place is the fraction of the channels ranked with it that have higher scores.
    """
    entries = []
    for names in ranked:
        own = [
            (-mean, i, number, length)
            for i, name in enumerate(names)
            for number, (mean, length) in enumerate(
                zip(bundles[name].means(scores[name]), bundles[name].lengths, strict=True)
            )
        ]
        total, before = sum(entry[3] for entry in own), 0
        for _, i, number, length in sorted(own, key=lambda entry: entry[:1]):
            # The middle of the bundle, so that groups of any width lose the same fraction.
            entries.append(((before + length / 2) / total, names[i], number))
            before += length
    entries.sort(key=lambda entry: entry[0])
    return [name for _, name, number in entries if number >= counts[name]]


def _longest_prefix(order, counts, fits):
    """Returns how many entries of the order can be kept, from the first on."""
    low, high = 0, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(_added(counts, order[:middle])):
            low = middle
        else:
            high = middle - 1
    return low


def _filled(order, counts, fits):
    """Returns the counts after all further bundles that fit. They are kept in order."""
    full = set()
    for name in order:
        if name not in full:
            larger = _added(counts, [name])
            if fits(larger):
                counts = larger
            else:
                full.add(name)
    return counts


def _added(counts, names):
    result = dict(counts)
    for name in names:
        result[name] += 1
    return result
