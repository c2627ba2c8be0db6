"""Reads data sets: batches of inputs, labels and sample weights."""

import itertools

import keras
import numpy as np
from keras import ops

from tf_lottery.checks import positive_integer


def read_batches(batches, steps=None):
    """Yields batches as tensors.

    Args:
        batches: A tuple `(x, y)` or `(x, y, sample_weight)`, which is one batch, or an
            iterable of such: a list, a generator, a `tf.data.Dataset` or a
            `keras.utils.PyDataset`. `x` and `y` may be arrays or nested arrays.
        steps: Integer > 0, how many batches to use at most. Defaults to `None`: all.

    Yields:
        Tuples `(x, y, sample_weight)` of nested tensors or `None`; floating point tensors have
        the type `keras.config.floatx()`.

    Raises:
        ValueError: If `batches` is empty, endless without `steps`, or one is not a tuple.
    """
    if steps is not None:
        positive_integer("steps", steps)
    elif _is_endless(batches):
        raise ValueError(
            "Argument `steps` must be given for batches that never end. Received: steps=None"
        )
    count = 0
    for batch in itertools.islice(_iterator(batches), steps):
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise ValueError(
                "Argument `batches` must be a tuple `(x, y)` or an iterable of such tuples. "
                f"Received: a batch of type {type(batch).__name__}"
            )
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(tuple(batch))
        yield keras.tree.map_structure(_to_tensor, (x, y, sample_weight))
        count += 1
    if not count:
        raise ValueError(f"Argument `batches` must not be empty. Received: {batches!r}")


def raw_batches(name, data):
    """Returns an iterator of the batches of a data set as they are, or `None` for arrays.

    Args:
        name: String, the argument's name for messages.
        data: Arrays, nested in lists, tuples or dicts; or a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, an iterator of batches.

    Raises:
        ValueError: If the batches never end.

    Example:

    >>> list(raw_batches("x", iter([1, 2]))), raw_batches("x", np.ones(3))
    ([1, 2], None)
    """
    if _is_endless(data):
        raise ValueError(
            f"Argument `{name}` must end, such as `dataset.take(10)`. "
            f"Received: a {type(data).__name__} without end"
        )
    if isinstance(data, keras.utils.PyDataset):
        return _items(data)
    if hasattr(data, "__array__") or isinstance(data, list | tuple | dict):
        return None
    return iter(data) if hasattr(data, "__iter__") else None


def to_array(tensor):
    """Returns a tensor of the backend, or an array, as a NumPy array."""
    return keras.ops.convert_to_numpy(tensor) if keras.ops.is_tensor(tensor) else np.asarray(tensor)


def gather(name, batches):
    """Returns the inputs, labels and sample weights of batches as arrays in memory.

    Args:
        name: String, the argument's name for messages.
        batches: Iterator or list of tuples `(x,)`, `(x, y)` or `(x, y, sample_weight)`, or of
            inputs alone.

    Returns:
        Tuple `(x, y, sample_weight)`, with `None` for what there is not.

    Raises:
        ValueError: If there is no batch, or batches are tuples of different lengths.

    Example:

    >>> gather("x", [(np.ones(2), np.zeros(2)), (np.ones(1), np.zeros(1))])
    (array([1., 1., 1.]), array([0., 0., 0.]), None)
    """
    found = [batch if isinstance(batch, tuple) else (batch,) for batch in batches]
    if not found or len({len(batch) for batch in found}) > 1:
        raise ValueError(
            f"Argument `{name}` must be a data set of batches `(x, y)`, at least one. "
            f"Received: {len(found)} batches"
        )
    x, y, weights = (*map(_concatenated, zip(*found, strict=True)), None, None)[:3]
    return x, y, weights


def _concatenated(parts):
    if all(part is None for part in parts):
        return None
    return keras.tree.map_structure(
        lambda *arrays: np.concatenate(list(map(to_array, arrays))), *parts
    )


def _iterator(batches):
    if isinstance(batches, tuple):
        return iter([batches])
    if isinstance(batches, keras.utils.PyDataset):
        return _items(batches)
    try:
        return iter(batches)
    except TypeError:
        raise ValueError(
            "Argument `batches` must be a tuple `(x, y)` or an iterable of such tuples. "
            f"Received: {batches!r}"
        ) from None


def _items(dataset):
    """Returns an iterator of the batches of a `keras.utils.PyDataset`."""
    size = dataset.num_batches
    return (dataset[i] for i in (itertools.count() if size is None else range(size)))


def _is_endless(batches):
    if isinstance(batches, keras.utils.PyDataset):
        return batches.num_batches is None
    # The cardinality of a `tf.data.Dataset` is -1 if it repeats forever, -2 if it is unknown.
    return hasattr(batches, "cardinality") and int(batches.cardinality()) == -1


def _to_tensor(array):
    if array is None:
        return None
    tensor = ops.convert_to_tensor(array)
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype)):
        return ops.cast(tensor, keras.config.floatx())
    return tensor
