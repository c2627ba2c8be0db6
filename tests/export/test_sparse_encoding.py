import itertools

import numpy as np
import pytest

from tf_lottery.export.sparse_encoding import decode, encode, from_parameters, to_parameters


def unpacked(parameters, shape, values):
    """Unpacks an array dimension by dimension, as TFLite's format defines it.

    The traversal order lists the dimensions from the outermost to the innermost: first those
    of the array, then those inside blocks. `blockMap[i]` is the dimension of the array that is
    divided by the i-th dimension inside blocks.
    """
    order = [int(i) for i in parameters.traversalOrder]
    block_map = [] if parameters.blockMap is None else [int(i) for i in parameters.blockMap]
    rank, dimensions = len(shape), parameters.dimMetadata
    sizes = {rank + i: dimensions[order.index(rank + i)].denseSize for i in range(len(block_map))}
    array, stored = np.zeros(shape, values.dtype), iter(values)

    def walk(level, row, position):
        if level == len(order):
            index = [position[axis] for axis in range(rank)]
            for inner, axis in enumerate(block_map):
                index[axis] = index[axis] * sizes[rank + inner] + position[rank + inner]
            array[tuple(index)] = next(stored)
            return
        dimension = dimensions[level]
        if dimension.format == 0:
            for i in range(dimension.denseSize):
                walk(level + 1, row * dimension.denseSize + i, {**position, order[level]: i})
            return
        starts = [int(i) for i in dimension.arraySegments.values]
        for k in range(starts[row], starts[row + 1]):
            walk(level + 1, k, {**position, order[level]: int(dimension.arrayIndices.values[k])})

    walk(0, 0, {})
    assert next(stored, None) is None
    return array


def assert_stores(array, axis=-1, block=1):
    encoding = encode(array, axis=axis, block=block)
    parameters = to_parameters(encoding)
    np.testing.assert_array_equal(unpacked(parameters, array.shape, encoding.values), array)
    np.testing.assert_array_equal(decode(encoding), array)
    again = from_parameters(parameters, array.shape, encoding.values)
    assert (again.shape, again.order, again.block) == (array.shape, encoding.order, block)
    np.testing.assert_array_equal(decode(again), array)


MATRIX = np.array(
    [
        [0, 0, 0, 0, 1, 0, 2, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 3, 0, 0, 0, 0, 0, 4],
    ],
    "float32",
)


def test_rows():
    encoding = encode(MATRIX)
    assert encoding.order == (0, 1)
    np.testing.assert_array_equal(encoding.values, [1, 2, 3, 4])
    np.testing.assert_array_equal(encoding.segments, [0, 2, 2, 4])
    np.testing.assert_array_equal(encoding.indices, [4, 6, 1, 7])
    assert encoding.num_bytes == 4 * 4 + 4 + 4
    assert encoding.density == 4 / 24


def test_columns():
    encoding = encode(MATRIX, axis=0)
    assert encoding.order == (1, 0)
    np.testing.assert_array_equal(encoding.values, [3, 1, 2, 4])
    np.testing.assert_array_equal(encoding.segments, [0, 0, 1, 1, 1, 2, 2, 3, 4])
    np.testing.assert_array_equal(encoding.indices, [2, 0, 0, 2])
    assert encoding.num_bytes == 4 * 4 + 9 + 4


def test_blocks_of_four():
    encoding = encode(MATRIX, block=4)
    np.testing.assert_array_equal(encoding.values, [1, 0, 2, 0, 0, 3, 0, 0, 0, 0, 0, 4])
    np.testing.assert_array_equal(encoding.segments, [0, 1, 1, 3])
    np.testing.assert_array_equal(encoding.indices, [1, 0, 1])
    assert encoding.num_bytes == 4 * 12 + 4 + 3
    assert encoding.density == 12 / 24


def test_parameters_of_rows():
    parameters = to_parameters(encode(MATRIX))
    rows, columns = parameters.dimMetadata
    assert parameters.traversalOrder == [0, 1] and parameters.blockMap == []
    assert (rows.format, rows.denseSize) == (0, 3) and columns.format == 1
    # Types of index vectors in the schema: 1 has 32 bits, 2 has 16, 3 has 8.
    assert columns.arraySegmentsType == columns.arrayIndicesType == 3


def test_parameters_of_blocks():
    parameters = to_parameters(encode(MATRIX, block=4))
    rows, columns, block = parameters.dimMetadata
    assert parameters.traversalOrder == [0, 1, 2] and parameters.blockMap == [1]
    assert [rows.format, columns.format, block.format] == [0, 1, 0]
    assert rows.denseSize == 3 and block.denseSize == 4


@pytest.mark.parametrize(
    "width, dtype",
    [(256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "int32")],
)
def test_type_of_positions(width, dtype):
    array = np.zeros((2, width), "int8")
    array[1, -1] = 1
    encoding = encode(array)
    assert encoding.indices.dtype == dtype and encoding.indices[0] == width - 1
    assert encoding.segments.dtype == "uint8"
    assert_stores(array)


@pytest.mark.parametrize(
    "number, dtype, kind",
    [
        (255, "uint8", 3),
        (256, "uint16", 2),
        (65535, "uint16", 2),
        (65536, "int32", 1),
    ],
)
def test_type_of_segments(number, dtype, kind):
    array = np.zeros((2, 65536), "int8")
    array[0, :number] = 1
    encoding = encode(array)
    assert encoding.segments.dtype == dtype and encoding.segments[-1] == number
    assert to_parameters(encoding).dimMetadata[1].arraySegmentsType == kind
    np.testing.assert_array_equal(decode(encoding), array)


@pytest.mark.parametrize("axis, block", [(-1, 1), (0, 1), (1, 1), (-1, 4), (0, 3)])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_round_trip_of_rank_4(axis, block, density):
    rng = np.random.default_rng(0)
    array = rng.normal(size=(6, 3, 2, 8)).astype("float32")
    assert_stores(array * (rng.random(array.shape) < density), axis, block)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_round_trip_of_types(dtype):
    assert encode(MATRIX.astype(dtype)).values.dtype == dtype
    assert_stores(MATRIX.astype(dtype))


@pytest.mark.parametrize("shape", [(8,), (1, 8), (8, 1), (1, 1)])
def test_round_trip_of_small_shapes(shape):
    for bits in itertools.islice(itertools.product([0.0, 1.0], repeat=int(np.prod(shape))), 64):
        assert_stores(np.array(bits, "float32").reshape(shape))


def test_not_a_number_is_stored():
    array = np.array([[0.0, np.nan, 0.0, np.inf]], "float32")
    np.testing.assert_array_equal(decode(encode(array)), array)


@pytest.mark.parametrize("axis, block", [(-1, 3), (0, 4)])
def test_block_has_to_divide_the_axis(axis, block):
    with pytest.raises(ValueError, match=rf"`block` must divide axis .*block={block}, .*\(3, 8\)"):
        encode(MATRIX, axis=axis, block=block)


def test_other_formats_are_not_read():
    values = encode(MATRIX).values
    parameters = to_parameters(encode(MATRIX))
    parameters.dimMetadata.reverse()
    assert from_parameters(parameters, MATRIX.shape, values) is None
    blocks = to_parameters(encode(MATRIX, block=4))
    blocks.blockMap = [0]
    assert from_parameters(blocks, MATRIX.shape, values) is None
