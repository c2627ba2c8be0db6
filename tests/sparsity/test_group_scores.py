import numpy as np
import pytest

from tf_lottery.sparsity import group_scores
from tf_lottery.sparsity.groups import Group, Member

EVERY = np.arange(2)[:, None]
# Two channels that a dense kernel and the two gates of a recurrent one make.
GROUP = Group(
    "units",
    2,
    kernels=(
        Member("dense/kernel", 1, EVERY),
        Member("cell/kernel", 1, np.array([[0, 2], [1, 3]])),
    ),
    companions=(Member("norm/gamma", 0, EVERY), Member("dense/bias", 0, EVERY)),
    readers=(
        Member("flat/kernel", 0, np.array([[0, 2], [1, 3]])),
        Member("other/kernel", 0, EVERY),
    ),
)
WEIGHTS = {
    "dense/kernel": np.array([[1.0, -2.0], [-3.0, 0.5]]),
    "cell/kernel": np.array([[2.0, 1.0, -1.0, 4.0]]),
    "norm/gamma": np.array([0.25, -4.0]),
    "dense/bias": np.array([9.0, 9.0]),
}
GRADIENTS = {
    "dense/kernel": np.array([[1.0, 1.0], [2.0, -1.0]]),
    "cell/kernel": np.array([[-1.0, 2.0, 3.0, 0.5]]),
}


@pytest.mark.parametrize(
    ("name", "statistics", "expected"),
    [
        # 1 + 3 and 2 + 1; 2 + 0.5 and 1 + 4.
        ("l1", None, [3.5, 3.75]),
        (
            "l2",
            None,
            [(10**0.5 + 5**0.5) / 2, (4.25**0.5 + 17**0.5) / 2],
        ),
        ("norm_scale", None, [0.25, 4.0]),
        # 1 - 6 and -2 - 3; -2 - 0.5 and 2 + 2.
        ("taylor", GRADIENTS, [(25 + 25) / 2, (6.25 + 16) / 2]),
        # Half of 1 + 4 * 9 and 4 + 1; half of 4 + 0.25 and 4 + 0.25 * 16.
        (
            "obd",
            {key: g**2 for key, g in GRADIENTS.items()},
            [(37 + 13) / 4, (4.25 + 8) / 4],
        ),
        ("activation", {"other/kernel": np.array([0.5, 2.0])}, [0.5, 2.0]),
        (
            "activation",
            {
                "other/kernel": np.array([0.5, 2.0]),
                "flat/kernel": np.array([1.0, 0.0, 3.0, 1.0]),
            },
            [1.25, 1.25],
        ),
    ],
)
def test_formulas(name, statistics, expected):
    found = group_scores.get(name)(GROUP, WEIGHTS, statistics)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_kernels_of_convolutions_and_depthwise_kernels():
    rng = np.random.default_rng(0)
    weights = {"a/kernel": rng.normal(size=(3, 3, 5, 2)), "b/kernel": rng.normal(size=(3, 3, 2, 1))}
    group = Group("a", 2, (Member("a/kernel", 3, EVERY), Member("b/kernel", 2, EVERY)))
    expected = [
        (np.abs(weights["a/kernel"][..., c]).sum() + np.abs(weights["b/kernel"][:, :, c]).sum()) / 2
        for c in range(2)
    ]
    np.testing.assert_allclose(group_scores.l1(group, weights), expected)


def test_norm_scale_without_a_norm_is_l1():
    group = Group("units", 2, GROUP.kernels)
    np.testing.assert_array_equal(group_scores.norm_scale(group, WEIGHTS), [3.5, 3.75])


@pytest.mark.parametrize("name", ["taylor", "obd", "activation"])
def test_scores_that_need_data_say_so(name):
    with pytest.raises(ValueError, match=f"'{name}' are measured on data.*Received: \\[\\]"):
        group_scores.get(name)(GROUP, WEIGHTS)


def test_normalized_scores_have_the_mean_one():
    np.testing.assert_array_equal(
        group_scores.normalized(np.array([1.0, 2.0, 6.0])), [1 / 3, 2 / 3, 2]
    )
    np.testing.assert_array_equal(group_scores.normalized(np.zeros(3)), np.zeros(3))


def test_like_groups_may_differ_in_width_and_in_pixels():
    def group(name, width, pixels, norm="gamma"):
        every = np.arange(width)[:, None]
        flat = np.arange(width * pixels).reshape(pixels, width).T
        return Group(
            name,
            width,
            (Member(f"{name}/kernel", 3, every),),
            (Member(f"{name}_norm/{norm}", 0, every),),
            (Member(f"{name}_next/kernel#2", 0, flat),),
        )

    kinds = [
        group_scores.kind_of(group(*arguments))
        for arguments in (("a", 4, 9), ("b", 2, 4), ("c", 4, 1), ("d", 4, 9, "beta"))
    ]
    assert kinds[0] == kinds[1]
    assert len(set(kinds)) == 3
