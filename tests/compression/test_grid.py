import pytest

from tf_lottery.compression.grid import DENSE, Grid, Network, least_bytes

# A convolution of 3x3x2x4 = 72 weights, and a dense kernel of 8x4 = 32.
SHAPES = [(3, 3, 2, 4), (8, 4)]


@pytest.mark.parametrize(
    ("structure", "sparsity", "precision", "expected"),
    [
        (DENSE, 0.0, "float32", 4 * 104),
        (DENSE, 0.0, "int8", 104),
        ("channel", 0.5, "int8", 52),
        # Four bytes and an index of one byte for every weight that is kept.
        ("unstructured", 0.75, "float32", 26 * 5),
        ("unstructured", 0.75, "float16", 26 * 3),
        # One index for a block of four.
        ("4x1", 0.75, "float32", 26 * 4 + 6),
        # An index costs as much as the zero that it replaces: stored dense.
        ("unstructured", 0.25, "weight_int8", 104),
        ("unstructured", 0.75, "dynamic_int8", None),
        # Convolutions leave out zeros, the dense kernel stores them.
        ("unstructured", 0.75, "int8", 36 + 32),
        ("16x1", 0.75, "dynamic_int8", 26 + 1),
        ("2:4", 0.5, "float32", 52 * 5),
    ],
)
def test_least_bytes(structure, sparsity, precision, expected):
    assert least_bytes(SHAPES, Network(structure, sparsity), precision) == expected


def test_names():
    assert Network(DENSE).name == "dense"
    finetuned = Network("4x1", 0.95, finetuned=True)
    assert finetuned.name == "4x1_95_finetuned"
    assert finetuned.untrained.name == "4x1_95"


def test_names_are_fit_for_files():
    network = Network("channel:8", 0.5)
    assert network.name == "channel-8_50" and network.removes_channels


def test_networks_of_a_structure():
    grid = Grid.checked(["4x1"], [0.5, 0.9], ["int8"])
    assert [n.name for n in grid.networks("4x1")] == ["4x1_50", "4x1_90"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("4x1", (0.5,), ("int8",)), "`structures` must be a list"),
        ((("4x1",), (0.9, 0.5), ("int8",)), "rising"),
        ((("4x1",), (0.0,), ("int8",)), "rising"),
        ((("4x1",), (1.5,), ("int8",)), r"`sparsities` must be in \[0, 1\)"),
        ((("4x1",), (0.5,), ("int4",)), "`precisions` must be one of"),
        ((("4x",), (0.5,), ("int8",)), "pattern"),
        ((("4x1",), (0.5,), ()), "at least one precision"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid.checked(*arguments)
