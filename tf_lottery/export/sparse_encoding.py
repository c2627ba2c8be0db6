"""Arrays without their zeros, in the formats that TFLite's runtime reads.

All axes but the last are stored dense; along the last, which in TFLite's kernels are the
inputs, only the elements that are not zero are stored, with their positions: compressed
sparse rows (CSR). Positions can also be those of blocks of consecutive inputs, which are
stored if any element is not zero.
"""

import dataclasses
import math

import numpy as np

BLOCKS = (1, 4, 16)


@dataclasses.dataclass(frozen=True)
class SparseEncoding:
    """An array stored without its zeros.

    Args:
        shape: Tuple of integers, of the array.
        block: Integer, how many consecutive elements of the last axis have one position:
            1 for plain CSR.
        values: Array, flat: the elements of all stored blocks, row by row.
        segments: Integer array. `segments[r]` to `segments[r + 1]` are the blocks of row r.
        indices: Integer array, the positions of the blocks in their rows, in blocks.
    """

    shape: tuple
    block: int
    values: np.ndarray
    segments: np.ndarray
    indices: np.ndarray

    @property
    def num_bytes(self):
        """Integer, the bytes of values and positions, without the file's own tables."""
        return self.values.nbytes + self.segments.nbytes + self.indices.nbytes

    @property
    def density(self):
        """Float, the fraction of blocks that are stored."""
        return len(self.indices) * self.block / max(math.prod(self.shape), 1)


def encode(array, block=1):
    """Stores an array without its zeros.

    Args:
        array: NumPy array of rank 1 or more.
        block: Integer, divides the last axis. Defaults to `1`.

    Returns:
        A `SparseEncoding`, its positions in the smallest type that TFLite has for them:
        8, 16 or 32 bits.

    Raises:
        ValueError: If `block` does not divide the last axis.

    Example:

    >>> encoding = encode(np.array([[0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 0.0, 7.0]]))
    >>> encoding.values, encoding.segments, encoding.indices
    (array([5., 7.]), array([0, 1, 2], dtype=uint8), array([1, 3], dtype=uint8))
    """
    if not array.shape or array.shape[-1] % block:
        raise ValueError(
            "Argument `block` must divide the last axis of the array. "
            f"Received: block={block}, array of shape {array.shape}"
        )
    blocks = array.reshape(-1, array.shape[-1] // block, block)
    stored = np.any(blocks != 0, axis=2)
    segments = np.concatenate([[0], np.cumsum(np.count_nonzero(stored, axis=1))])
    return SparseEncoding(
        array.shape,
        block,
        blocks[stored].reshape(-1),
        _smallest(segments),
        _smallest(np.nonzero(stored)[1]),
    )


def decode(encoding):
    """Returns the array that `encode` stored.

    Args:
        encoding: A `SparseEncoding`.
    """
    width = encoding.shape[-1] // encoding.block
    blocks = np.zeros((len(encoding.segments) - 1, width, encoding.block), encoding.values.dtype)
    rows = np.repeat(np.arange(len(blocks)), np.diff(encoding.segments.astype("int64")))
    blocks[rows, encoding.indices] = encoding.values.reshape(-1, encoding.block)
    return blocks.reshape(encoding.shape)


def to_parameters(encoding):
    """Returns the schema's `SparsityParametersT` of an encoding.

    Args:
        encoding: A `SparseEncoding`.
    """
    from ai_edge_litert import schema_py_generated as schema

    def dense(size):
        return schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=size)

    rank = len(encoding.shape)
    positions = schema.DimensionMetadataT(format=schema.DimensionType.SPARSE_CSR)
    positions.arraySegmentsType, positions.arraySegments = _vector(encoding.segments)
    positions.arrayIndicesType, positions.arrayIndices = _vector(encoding.indices)
    dimensions = [*map(dense, encoding.shape[:-1]), positions]
    if encoding.block > 1:
        dimensions.append(dense(encoding.block))
    return schema.SparsityParametersT(
        traversalOrder=list(range(len(dimensions))),
        blockMap=[rank - 1] if encoding.block > 1 else [],
        dimMetadata=dimensions,
    )


def from_parameters(parameters, shape, values):
    """Returns the encoding that a file stores, or `None` if it has another format.

    Args:
        parameters: A `SparsityParametersT`.
        shape: Tuple of integers, of the array.
        values: Array, flat, of the stored values.
    """
    from ai_edge_litert import schema_py_generated as schema

    rank, dimensions = len(shape), parameters.dimMetadata
    formats = [dimension.format for dimension in dimensions]
    rows = [schema.DimensionType.DENSE] * (rank - 1) + [schema.DimensionType.SPARSE_CSR]
    block = 1
    if len(formats) == rank + 1 and list(_or_empty(parameters.blockMap)) == [rank - 1]:
        block = dimensions[rank].denseSize
        rows.append(schema.DimensionType.DENSE)
    if formats != rows or list(parameters.traversalOrder) != list(range(len(rows))):
        return None
    positions = dimensions[rank - 1]
    segments, indices = positions.arraySegments.values, positions.arrayIndices.values
    return SparseEncoding(
        tuple(shape), block, values, np.asarray(segments), np.asarray(_or_empty(indices))
    )


def _or_empty(vector):
    return [] if vector is None else vector


def _smallest(positions):
    largest = np.max(positions, initial=0)
    dtypes = ("uint8", "uint16", "int32")
    return positions.astype(next(d for d in dtypes if largest <= np.iinfo(d).max))


def _vector(positions):
    """Returns the schema's type and vector of an array of positions."""
    from ai_edge_litert import schema_py_generated as schema

    name = {"uint8": "Uint8Vector", "uint16": "Uint16Vector", "int32": "Int32Vector"}[
        positions.dtype.name
    ]
    vector = getattr(schema, f"{name}T")(values=positions)
    return getattr(schema.SparseIndexVector, name), vector
