"""The networks and precisions that a compression tries, and what their files weigh at least."""

import dataclasses
import math
import re

import numpy as np

from tf_lottery.checks import choice, fraction
from tf_lottery.sparsity import patterns

DENSE = "dense"
STRUCTURES = ("unstructured", "4x1", "channel")
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
PRECISIONS = ("float32", "float16", "weight_int8", "dynamic_int8", "int8")
_BYTES = {"float32": 4, "float16": 2, "weight_int8": 1, "dynamic_int8": 1, "int8": 1}


@dataclasses.dataclass(frozen=True)
class Network:
    """One way to make the network sparser.

    Args:
        structure: `"dense"`, or the name of a pattern of `tfl.sparsify`.
        sparsity: Float, the fraction of zeros; for channels the fraction that is removed of the
            parameters, or of the FLOPs if the budget is of FLOPs or milliseconds.
        finetuned: Whether it is trained further, instead of repaired.
    """

    structure: str
    sparsity: float = 0.0
    finetuned: bool = False

    @property
    def name(self):
        """String, fit for the name of a file."""
        if self.structure == DENSE:
            return DENSE
        name = f"{self.structure.replace(':', '-')}_{100 * self.sparsity:g}"
        return f"{name}_finetuned" if self.finetuned else name

    @property
    def removes_channels(self):
        """Whether whole channels are removed."""
        is_dense = self.structure == DENSE
        return not is_dense and isinstance(patterns.get(self.structure), patterns.Channel)

    @property
    def untrained(self):
        """The same `Network`, repaired instead of trained further."""
        return dataclasses.replace(self, finetuned=False)


@dataclasses.dataclass(frozen=True)
class Grid:
    """What is tried. The dense network always is.

    Args:
        structures: Sequence of strings, patterns of `tfl.sparsify`.
        sparsities: Sequence of floats, rising.
        precisions: Sequence of strings, of `PRECISIONS`.
    """

    structures: tuple
    sparsities: tuple
    precisions: tuple

    @classmethod
    def checked(cls, structures, sparsities, precisions):
        """Returns a grid, or raises a `ValueError` if an argument is outside its range."""
        structures = _sequence("structures", structures)
        precisions = _sequence("precisions", precisions)
        for structure in structures:
            patterns.get(structure)
        for precision in precisions:
            choice("precisions", precision, PRECISIONS)
        shares = tuple(fraction("sparsities", s) for s in _sequence("sparsities", sparsities))
        if not precisions or any(a >= b for a, b in zip((0.0, *shares), shares, strict=False)):
            raise ValueError(
                "Arguments `sparsities` and `precisions` must be rising numbers above 0, and at "
                f"least one precision. Received: sparsities={sparsities}, precisions={precisions}"
            )
        return cls(structures, shares, precisions)

    def networks(self, structure, finetuned=False):
        """Returns the list of the networks of a structure, the least sparse first."""
        return [Network(structure, sparsity, finetuned) for sparsity in self.sparsities]


def _sequence(name, value):
    if isinstance(value, str) or not np.iterable(value):
        raise ValueError(f"Argument `{name}` must be a list or tuple. Received: {name}={value!r}")
    return tuple(dict.fromkeys(value))


def least_bytes(shapes: list, network: Network, precision: str) -> int | None:
    """Returns a lower bound of the bytes of a file, from the weights of the kernels alone.

    Args:
        shapes: List of the shapes of the dense network's kernels.
        network: `Network`.
        precision: String, of `PRECISIONS`.

    Returns:
        Integer, or `None` if the precision computes with products that read none of these zeros,
        so that the file would be as large as that of the dense network.

    Example:

    >>> network = Network("unstructured", 0.75)
    >>> least_bytes([(8, 4)], network, "float32"), least_bytes([(8, 4)], network, "int8")
    (40, None)
    """
    size, kept = _BYTES[precision], 1.0 - network.sparsity
    if network.structure == DENSE or network.removes_channels:
        return math.floor(size * kept * sum(map(math.prod, shapes)))
    # An index of at least a byte for every block that is kept.
    block = _block_size(network.structure)
    weights = size * kept + kept / block
    read = [math.prod(s) for s in shapes if _reads_zeros(precision, len(s), block)]
    stored = sum(map(math.prod, shapes)) - sum(read)
    return math.floor(size * stored + min(weights, size) * sum(read)) if read else None


def _block_size(structure):
    """Returns the weights of a block, 1 for single zeros and N:M."""
    is_block = re.fullmatch(r"\d+x\d+", structure)
    return math.prod(map(int, structure.split("x"))) if is_block else 1


def _reads_zeros(precision, rank, block):
    """Returns whether a file leaves out the zeros of a kernel; see `docs/guides/export.md`."""
    if precision == "int8" and rank > 2:
        return True
    return block % 16 == 0 or precision not in ("dynamic_int8", "int8")
