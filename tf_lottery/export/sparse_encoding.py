"""Encodes arrays in the sparse formats that TFLite's runtime reads.

One axis is sparse and all others are dense. Along the sparse axis, only the non-zero elements
and their positions are stored, as in compressed sparse rows (CSR). Instead of single elements,
blocks of consecutive elements can be stored; a block is left out if all its elements are zero.
"""

import dataclasses
import math

import numpy as np

# Elements of the largest array that is unpacked here.
LARGEST_ARRAY = 2**31


@dataclasses.dataclass(frozen=True)
class SparseEncoding:
    """An array stored without its zeros.

    Args:
        shape: Tuple of integers, the shape of the array.
        order: Tuple of integers, the axes from the outermost to the innermost. The innermost
            axis is the sparse one.
        block: Integer, the number of consecutive elements in a block along the sparse axis, 1
            for plain CSR.
        values: Flat array, the elements of all stored blocks, row by row.
        segments: Integer array. `segments[r]` to `segments[r + 1]` are the blocks of row r.
        indices: Integer array, the positions of the blocks in their rows, counted in blocks.
    """

    shape: tuple
    order: tuple
    block: int
    values: np.ndarray
    segments: np.ndarray
    indices: np.ndarray

    @property
    def num_bytes(self):
        """Integer, the bytes of values and positions, without the tables of the file format."""
        return self.values.nbytes + self.segments.nbytes + self.indices.nbytes

    @property
    def density(self):
        """Float, the fraction of blocks that are stored."""
        return self.values.size / max(math.prod(self.shape), 1)


def encode(array, axis=-1, block=1):
    """Stores an array without its zeros.

    Args:
        array: NumPy array of rank 1 or more.
        axis: Integer, the sparse axis. Positions on a short axis need fewer bits. Defaults to
            `-1`.
        block: Integer, the block size, which must divide the length of that axis. Defaults to
            `1`.

    Returns:
        A `SparseEncoding`. Its positions have the smallest type that TFLite offers: 8, 16 or 32
        bits.

    Raises:
        ValueError: If `block` does not divide the axis.

    Example:

    >>> encoding = encode(np.array([[0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 0.0, 7.0]]))
    >>> encoding.values, encoding.segments, encoding.indices
    (array([5., 7.]), array([0, 1, 2], dtype=uint8), array([1, 3], dtype=uint8))
    """
    axis = axis % array.ndim
    if array.shape[axis] % block:
        raise ValueError(
            f"Argument `block` must divide axis {axis} of the array. "
            f"Received: block={block}, array of shape {array.shape}"
        )
    order = (*(i for i in range(array.ndim) if i != axis), axis)
    blocks = array.transpose(order).reshape(-1, array.shape[axis] // block, block)
    stored = np.any(blocks != 0, axis=2)
    segments = np.concatenate([[0], np.cumsum(np.count_nonzero(stored, axis=1))])
    return SparseEncoding(
        array.shape,
        order,
        block,
        blocks[stored].reshape(-1),
        _in_smallest_type(segments),
        _in_smallest_type(np.nonzero(stored)[1]),
    )


def decode(encoding):
    """Returns the array that `encode` stored.

    Args:
        encoding: A `SparseEncoding`.
    """
    shape = [encoding.shape[axis] for axis in encoding.order]
    num_rows, width = len(encoding.segments) - 1, shape[-1] // encoding.block
    blocks = np.zeros((num_rows, width, encoding.block), encoding.values.dtype)
    rows = np.repeat(np.arange(num_rows), np.diff(encoding.segments.astype("int64")))
    blocks[rows, encoding.indices] = encoding.values.reshape(-1, encoding.block)
    return blocks.reshape(shape).transpose(np.argsort(encoding.order))


def to_parameters(encoding):
    """Returns the schema's `SparsityParametersT` of an encoding.

    Args:
        encoding: A `SparseEncoding`.
    """
    from ai_edge_litert import schema_py_generated as schema

    def dense(size):
        return schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=size)

    positions = schema.DimensionMetadataT(format=schema.DimensionType.SPARSE_CSR)
    positions.arraySegmentsType, positions.arraySegments = _vector(encoding.segments)
    positions.arrayIndicesType, positions.arrayIndices = _vector(encoding.indices)
    order, block_map = list(encoding.order), []
    dimensions = [*(dense(encoding.shape[axis]) for axis in order[:-1]), positions]
    if encoding.block > 1:
        block_map = order[-1:]
        order.append(len(order))
        dimensions.append(dense(encoding.block))
    return schema.SparsityParametersT(
        traversalOrder=order, blockMap=block_map, dimMetadata=dimensions
    )


def from_parameters(parameters, shape, values):
    """Returns the encoding that a file stores, or `None` if its format is not known here.

    Args:
        parameters: A `SparsityParametersT`.
        shape: Tuple of integers, the shape of the array.
        values: Flat array of the stored values.
    """
    from ai_edge_litert import schema_py_generated as schema

    rank, dimensions = len(shape), parameters.dimMetadata
    order = tuple(int(axis) for axis in parameters.traversalOrder)
    block_map = [] if parameters.blockMap is None else list(parameters.blockMap)
    expected = [schema.DimensionType.DENSE] * (rank - 1) + [schema.DimensionType.SPARSE_CSR]
    block = 1
    if block_map:
        expected.append(schema.DimensionType.DENSE)
        block = dimensions[-1].denseSize
    is_known = block_map in ([], [order[rank - 1]]) and sorted(order[:rank]) == list(range(rank))
    if not is_known or [dimension.format for dimension in dimensions] != expected:
        return None
    positions = dimensions[rank - 1]
    segments, indices = map(_positions, (positions.arraySegments, positions.arrayIndices))
    return SparseEncoding(tuple(shape), order[:rank], block, values, segments, indices)


def find_problem(parameters, shape, num_values):
    """Returns what is wrong with the sparse format of a tensor, or `""`.

    Args:
        parameters: A `SparsityParametersT`, as a file has it.
        shape: Tuple of integers, the shape of the array.
        num_values: Integer, how many values the file stores.
    """
    order, dimensions = parameters.traversalOrder, parameters.dimMetadata or []
    block_map = [] if parameters.blockMap is None else list(parameters.blockMap)
    rank = len(shape) + len(block_map)
    if order is None or sorted(order) != list(range(rank)) or len(dimensions) != rank:
        return "is sparse, without an order of its axes"
    encoding = from_parameters(parameters, shape, None)
    if encoding is None:
        return ""
    width, rows = shape[encoding.order[-1]], len(encoding.segments) - 1
    fits = encoding.block > 0 and width % encoding.block == 0
    if not fits or rows * width != math.prod(shape) or math.prod(shape) > LARGEST_ARRAY:
        return f"is sparse, but has not {rows} rows in blocks of {encoding.block}"
    counts, indices = np.diff(encoding.segments.astype("int64")), encoding.indices
    stored = np.concatenate([[encoding.segments[0] == 0], counts >= 0, [True]]).all()
    if not stored or counts.sum() != len(indices) or len(indices) * encoding.block != num_values:
        return f"is sparse, but its rows do not add up to {num_values} values"
    if not np.all((indices >= 0) & (indices < max(width // encoding.block, 1))):
        return "is sparse, but has positions beyond its rows"
    return ""


def _in_smallest_type(positions):
    largest = np.max(positions, initial=0)
    dtypes = ("uint8", "uint16", "int32")
    return positions.astype(next(dtype for dtype in dtypes if largest <= np.iinfo(dtype).max))


def _positions(vector):
    """Returns the array of a vector of the schema, which has no values if it is empty."""
    values = None if vector is None else vector.values
    return np.zeros(0, "int64") if values is None else np.asarray(values)


def _vector(positions):
    """Returns the schema's type and vector of an array of positions."""
    from ai_edge_litert import schema_py_generated as schema

    name = {"uint8": "Uint8Vector", "uint16": "Uint16Vector", "int32": "Int32Vector"}[
        positions.dtype.name
    ]
    vector = getattr(schema, f"{name}T")(values=positions)
    return getattr(schema.SparseIndexVector, name), vector
