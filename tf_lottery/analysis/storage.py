"""How many bytes weights take in formats for sparse matrices."""

import math

FORMATS = ("dense", "bitmask", "csr")
_VALUE = _INDEX = 4


def num_bytes(kernels: list, num_dense: int = 0) -> dict[str, int]:
    """Returns the bytes of weights in every format, as 32-bit floats.

    `"bitmask"` stores the weights that are not zero and a bit for every position, as in
    "Rigging the Lottery" (arXiv:1911.11134). `"csr"` stores a 32-bit index with every weight
    that is not zero and, for every output, the position of its first weight. Kernels without
    zeros are stored dense in all formats.

    Args:
        kernels: List of pairs of a kernel's shape, outputs last, and the number of its
            weights that are not zero.
        num_dense: Integer, the number of other weights, for example biases, stored dense.
            Defaults to `0`.

    Returns:
        Dict of `"dense"`, `"bitmask"` and `"csr"` to integers.

    Example:

    >>> num_bytes([((8, 4), 10)], num_dense=4)
    {'dense': 144, 'bitmask': 60, 'csr': 116}
    """
    totals = dict.fromkeys(FORMATS, _VALUE * num_dense)
    for shape, nonzeros in kernels:
        size = math.prod(shape)
        dense = _VALUE * size
        sparse = nonzeros < size
        indices = _INDEX * (nonzeros + shape[-1] + 1)
        totals["dense"] += dense
        totals["bitmask"] += _VALUE * nonzeros + size / 8 if sparse else dense
        totals["csr"] += _VALUE * nonzeros + indices if sparse else dense
    # Given sparsities can make `nonzeros` a fraction.
    return {name: math.ceil(total) for name, total in totals.items()}


def describe(sizes):
    """Returns a line of text for the dict that `num_bytes` returns."""
    names = {"csr": "CSR"}
    return "Bytes: " + ", ".join(f"{names.get(n, n)} {size:,}" for n, size in sizes.items())
