import itertools

import keras
import numpy as np
import pytest

from tf_lottery.data_sets import raw_batches, read_batches

BATCHES = [(np.full((2, 3), i, "float64"), np.array([i, i])) for i in range(3)]


class Dataset(keras.utils.PyDataset):
    """A data set with a few batches, or with endlessly many."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    @property
    def num_batches(self):
        return self.size

    def __getitem__(self, index):
        return BATCHES[index % 3]


def tf_dataset():
    tf = pytest.importorskip("tensorflow")
    x, y = (np.concatenate(arrays) for arrays in zip(*BATCHES, strict=True))
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(2)


SOURCES = {
    "list": lambda: BATCHES,
    "generator": lambda: (batch for batch in BATCHES),
    "py_dataset": lambda: Dataset(3),
    "tf_dataset": tf_dataset,
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("steps", [None, 2, 9])
def test_every_source_gives_the_same_batches(source, steps):
    read = list(read_batches(SOURCES[source](), steps))
    assert len(read) == min(steps or 3, 3)
    for (x, y, sample_weight), (expected_x, expected_y) in zip(read, BATCHES, strict=False):
        assert keras.ops.is_tensor(x)
        assert keras.backend.standardize_dtype(x.dtype) == "float32"
        assert keras.backend.is_int_dtype(keras.backend.standardize_dtype(y.dtype))
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)
        assert sample_weight is None


def test_a_tuple_is_one_batch_of_nested_arrays():
    x = {"a": np.ones((2, 3)), "b": [np.zeros(2)]}
    [(read, y, sample_weight)] = read_batches((x, np.ones(2), np.array([0.5, 1])))
    np.testing.assert_array_equal(read["a"], x["a"])
    np.testing.assert_array_equal(read["b"][0], x["b"][0])
    np.testing.assert_array_equal(sample_weight, [0.5, 1])


@pytest.mark.parametrize(
    "endless", [lambda: Dataset(None), lambda: tf_dataset().repeat()], ids=["py_dataset", "tf"]
)
def test_endless_batches_need_steps(endless):
    with pytest.raises(ValueError, match="`steps` must be given.*Received: steps=None"):
        next(read_batches(endless()))
    assert len(list(read_batches(endless(), steps=4))) == 4


@pytest.mark.parametrize("empty", [[], (batch for batch in []), Dataset(0)])
def test_no_batch(empty):
    with pytest.raises(ValueError, match="`batches` must not be empty"):
        list(read_batches(empty))


@pytest.mark.parametrize("wrong", [[np.ones((2, 3))], [(np.ones(2),)], (1, 2, 3, 4), np.ones(3)])
def test_batches_that_are_no_tuples(wrong):
    with pytest.raises(ValueError, match="`batches` must be a tuple `\\(x, y\\)` or an iterable"):
        list(read_batches(wrong))


def test_what_cannot_be_iterated():
    with pytest.raises(ValueError, match="`batches` must be a tuple.*Received: 3"):
        list(read_batches(3))


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_steps_outside_their_range(steps):
    with pytest.raises(ValueError, match="`steps` must be an integer > 0"):
        list(read_batches(itertools.repeat(BATCHES[0]), steps))


def test_raw_batches_are_those_of_a_data_set_that_ends():
    assert list(raw_batches("x", Dataset(2))) == BATCHES[:2]
    assert raw_batches("x", BATCHES) is None
    for endless in (Dataset(None), tf_dataset().repeat()):
        with pytest.raises(ValueError, match="`x` must end.*Received: a .*Dataset without end"):
            raw_batches("x", endless)
