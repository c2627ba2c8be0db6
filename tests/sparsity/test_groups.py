import numpy as np
import pytest

from tf_lottery.sparsity.groups import Accounting, Group, Member, combined_masks

EVERY = np.arange(2)[:, None]
# The units of a recurrent layer with two gates: three inputs, two units.
UNITS = Group(
    "units",
    2,
    kernels=(Member("kernel", 1, np.array([[0, 2], [1, 3]])),),
    companions=(Member("bias", 0, np.array([[0, 2], [1, 3]])),),
    readers=(Member("next", 0, EVERY),),
)
SHAPES = {"kernel": (3, 4), "bias": (4,), "next": (2, 5)}


def test_as_matrix_has_a_column_for_each_channel():
    kernel = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])
    matrix = UNITS.as_matrix({"kernel": kernel})
    np.testing.assert_array_equal(np.sort(matrix[:, 0]), [1, 3, 5, 7, 9, 11])
    np.testing.assert_array_equal(np.sort(matrix[:, 1]), [2, 4, 6, 8, 10, 12])


def test_as_matrix_joins_kernels():
    group = Group("sum", 2, (Member("a", 1, EVERY), Member("b", 0, EVERY)))
    values = {"a": np.array([[1, 2], [3, 4]]), "b": np.array([[5, 6, 7], [8, 9, 10]])}
    np.testing.assert_array_equal(
        group.as_matrix(values), [[1, 2], [3, 4], [5, 8], [6, 9], [7, 10]]
    )


def test_from_matrix_undoes_as_matrix_and_leaves_other_groups():
    group = Group("part", 2, (Member("a", 1, np.array([[2], [0]])), UNITS.kernels[0]))
    rng = np.random.default_rng(0)
    values = {"a": rng.normal(size=(2, 3, 2)), "kernel": rng.normal(size=(3, 4))}
    found = group.from_matrix(group.as_matrix(values) * 2, values)
    np.testing.assert_array_equal(found["a"], values["a"] * np.array([2, 1, 2])[:, None])
    np.testing.assert_array_equal(found["kernel"], values["kernel"] * 2)
    assert group.from_matrix(group.as_matrix(values) > 0, values)["a"].dtype == bool


def test_masks_cover_kernels_and_companions():
    masks = UNITS.masks(np.array([True, False]), SHAPES)
    assert list(masks) == ["kernel", "bias"]
    np.testing.assert_array_equal(masks["kernel"], [[True, False, True, False]] * 3)
    np.testing.assert_array_equal(masks["bias"], [True, False, True, False])


def test_combined_masks_of_groups_that_share_a_variable():
    heads = Group("heads", 2, (Member("value", 1, EVERY),))
    width = Group("width", 3, (Member("value", 2, np.arange(3)[:, None]),))
    kept = {"heads": np.array([True, False]), "width": np.array([False, True, True])}
    found = combined_masks([heads, width], kept, {"value": (1, 2, 3)})
    np.testing.assert_array_equal(found["value"], [[[False, True, True], [False] * 3]])
    found = combined_masks([heads, width], {}, {"value": (1, 2, 3)})
    assert found["value"].all()


@pytest.mark.parametrize(
    ("kept", "parameters", "flops"),
    [
        ({}, 12 + 4 + 10 + 1, 120 + 10),
        ({"units": np.array([False, True])}, 6 + 2 + 5 + 1, 60 + 5),
        ({"units": 1}, 6 + 2 + 5 + 1, 60 + 5),
        ({"units": 1, "outputs": 2}, 6 + 2 + 2 + 1, 60 + 2),
        ({"outputs": 0}, 12 + 4 + 0 + 1, 120),
    ],
)
def test_accounting(kept, parameters, flops):
    outputs = Group("outputs", 5, (Member("next", 1, np.arange(5)[:, None]),))
    shapes = {**SHAPES, "scalar": ()}
    accounting = Accounting([UNITS, outputs], shapes, {"kernel": 120, "next": 10})
    assert accounting.parameters(kept) == parameters
    assert accounting.flops(kept) == flops
