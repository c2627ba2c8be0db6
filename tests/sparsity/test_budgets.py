import itertools

import numpy as np
import pytest

from tf_lottery.sparsity.budgets import GradualBudget, check_budget, keep_within_budget
from tf_lottery.sparsity.groups import Accounting, Group, Member

# A perceptron: 5 inputs, 4 and 6 hidden units, 3 outputs.
WIDTHS = {"first": 4, "second": 6}
SHAPES = {"k1": (5, 4), "b1": (4,), "k2": (4, 6), "b2": (6,), "k3": (6, 3), "b3": (3,)}
MACS = {"k1": 20, "k2": 24, "k3": 18}
SCORES = {
    "first": np.array([4.0, 1.0, 3.0, 2.0]),
    "second": np.array([9.0, 1.5, 8.0, 2.5, 7.0, 0.5]),
}


def make_groups():
    def member(key, axis, width):
        return Member(key, axis, np.arange(width)[:, None])

    return [
        Group("first", 4, (member("k1", 1, 4),), (member("b1", 0, 4),), (member("k2", 0, 4),)),
        Group("second", 6, (member("k2", 1, 6),), (member("b2", 0, 6),), (member("k3", 0, 6),)),
    ]


def parameters(a, b):
    return 5 * a + a + a * b + b + b * 3 + 3


def flops(a, b):
    return 5 * a + a * b + 3 * b


COSTS = {"parameters": parameters, "flops": flops}


def counts_within(budget, ranked=(("first",), ("second",)), **options):
    accounting = Accounting(make_groups(), SHAPES, MACS)
    found = keep_within_budget(accounting, budget, SCORES, ranked, **options)
    for name, mask in found.items():
        # The channels with the highest scores.
        assert SCORES[name][mask].min() > max(SCORES[name][~mask], default=-1)
    return tuple(int(mask.sum()) for mask in found.values())


@pytest.mark.parametrize("kind", ["parameters", "flops"])
@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.61, 0.9, 1.0])
@pytest.mark.parametrize("ranked", [(("first",), ("second",)), (("first", "second"),)])
def test_choice_is_within_the_budget_and_no_channel_more_would_be(kind, fraction, ranked):
    cost, limit = COSTS[kind], fraction * COSTS[kind](4, 6)
    a, b = counts_within({kind: fraction}, ranked)
    assert cost(a, b) <= limit
    assert a == 4 or cost(a + 1, b) > limit
    assert b == 6 or cost(a, b + 1) > limit


def test_groups_that_are_ranked_apart_lose_the_same_fraction():
    # 2 and 3 channels leave half of each group.
    assert counts_within({"flops": flops(2, 3) / flops(4, 6)}) == (2, 3)


def test_groups_that_are_ranked_together_lose_their_lowest_scores():
    together = [("first", "second")]
    # The channels from the highest score down: 9, 8, 7, 4, 3, 2.5, 2, 1.5, 1, 0.5.
    assert counts_within({"flops": flops(2, 4) / flops(4, 6)}, together) == (2, 4)
    assert counts_within({"flops": flops(1, 3) / flops(4, 6)}, together) == (1, 3)


def test_a_gradual_budget_ends_exactly():
    falling = GradualBudget({"flops": 0.1, "parameters": 1}, end_step=6, begin_step=2)
    assert falling(1) == falling(2) == {"flops": 1, "parameters": 1}
    assert falling(4)["flops"] == pytest.approx(0.1 + 0.9 / 8)
    assert falling(6) == falling(9) == {"flops": 0.1, "parameters": 1}


def test_both_budgets_hold():
    limits = {kind: 0.6 * cost(4, 6) for kind, cost in COSTS.items()}
    a, b = counts_within({"flops": 0.6, "parameters": 0.6})
    assert all(cost(a, b) <= limits[kind] for kind, cost in COSTS.items())


def test_rounded_choice_and_floor():
    allowed = [(a, b) for a, b in itertools.product((2, 4), (2, 4, 6)) if flops(a, b) <= 40]
    assert counts_within({"flops": 40 / flops(4, 6)}, round_to=2) in allowed
    assert counts_within(
        {"flops": flops(3, 3) / flops(4, 6)}, floors={"first": 3, "second": 3}
    ) == (3, 3)
    # Neither width is a multiple of 5.
    assert counts_within({"flops": 1.0}, round_to=5) == (4, 6)


def test_channels_that_are_gone_stay_so():
    alive = {"first": np.array([True, True, False, False]), "second": np.ones(6, bool)}
    found = keep_within_budget(
        Accounting(make_groups(), SHAPES, MACS),
        {"flops": 1.0},
        SCORES,
        [["first"], ["second"]],
        alive=alive,
    )
    np.testing.assert_array_equal(found["first"], alive["first"])
    assert found["second"].all()


def test_budget_that_would_make_a_group_vanish_is_refused():
    least = round(flops(1, 1) / flops(4, 6), 4)
    with pytest.raises(ValueError, match=f"must be at least {{'flops': {least}}}.*Received.*0.1"):
        counts_within({"flops": 0.1})


@pytest.mark.parametrize(
    "budget",
    [{}, {"flops": 0}, {"flops": 1.5}, {"bytes": 0.5}, {"flops": True}, 0.5, {"flops": "1"}],
)
def test_wrong_budgets_are_refused(budget):
    with pytest.raises(ValueError, match="Argument `budget` must be a dict.*Received"):
        check_budget(budget)
