import itertools

import numpy as np
import pytest

from tf_lottery.sparsity.allocation import Curve, allocate

GRID = [0.0, 0.5, 0.75, 1.0]


def convex_curves():
    rng = np.random.default_rng(0)
    curves = {}
    for name, size in (("a", 8.0), ("b", 16.0), ("c", 4.0)):
        slopes = np.sort(rng.random(3))
        damages = [0.0, *np.cumsum(slopes * np.diff(GRID) * size)]
        curves[name] = Curve(GRID, damages, [size * (1 - s) for s in GRID])
    return curves


def predicted(curves, sparsities):
    return sum(
        np.interp(s, curves[name].sparsities, curves[name].damages)
        for name, s in sparsities.items()
    )


@pytest.mark.parametrize("budget", [20.0, 11.0, 6.0])
def test_no_mixture_of_sparsities_on_a_fine_grid_is_better(budget):
    curves = convex_curves()
    found = allocate(curves, budget)
    costs = {name: curve.costs[0] for name, curve in curves.items()}
    assert sum(costs[n] * (1 - s) for n, s in found.items()) == pytest.approx(budget)
    fine = np.linspace(0, 1, 33)
    best = min(
        predicted(curves, dict(zip(curves, shares, strict=True)))
        for shares in itertools.product(fine, repeat=3)
        if sum(c * (1 - s) for c, s in zip(costs.values(), shares, strict=True)) <= budget
    )
    assert predicted(curves, found) <= best + 1e-9


def test_curves_that_are_not_convex_or_not_rising_use_their_hull():
    bent = Curve([0.0, 0.5, 0.9], [0.0, 3.0, 1.0], [10.0, 5.0, 1.0])
    steep = Curve([0.0, 0.5, 0.9], [0.0, 9.0, 9.0], [10.0, 5.0, 1.0])
    # The damage of 0.9 counts as that of 0.5, so the first half is skipped.
    assert allocate({"bent": bent, "steep": steep}, 11.0) == {"bent": 0.9, "steep": 0.0}


@pytest.mark.parametrize("damage", [float("nan"), float("inf")])
def test_kernels_are_not_pruned_where_the_damage_is_not_finite(damage):
    costs = [10.0, 5.0, 1.0]
    broken = Curve([0.0, 0.5, 0.9], [0.0, damage, 0.0], costs)
    later = Curve([0.0, 0.5, 0.9], [0.0, 7.0, damage], costs)
    sound = Curve([0.0, 0.5, 0.9], [0.0, 8.0, 9.0], costs)
    curves = {"broken": broken, "later": later, "sound": sound}
    assert allocate(curves, 16.0) == {"broken": 0.0, "later": 0.5, "sound": 0.9}
    with pytest.raises(ValueError, match="at least 16, .*finite damage"):
        allocate(curves, 15.0)


def test_first_zeros_can_add_a_cost():
    # Ten weights of 4 bytes; with zeros, a byte for every two positions.
    curve = Curve([0.0, 0.5, 0.9], [0.0, 0.1, 0.5], [40, 25, 9], overhead=5)
    for budget, sparsity in ((40, 0.0), (39, 0.15), (25, 0.5), (17, 0.7), (9, 0.9)):
        assert allocate({"kernel": curve}, budget) == {"kernel": sparsity}
    # Storing few zeros takes more than storing none.
    curve = Curve([0.0, 0.01, 0.9], [0.0, 0.0, 0.5], [40, 44.6, 9], overhead=5)
    assert allocate({"kernel": curve}, 39) == {"kernel": 0.15}


def test_a_budget_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="must be at least 1,"):
        allocate({"kernel": Curve([0.0, 0.9], [0.0, 1.0], [10.0, 1.0])}, 0.5)
