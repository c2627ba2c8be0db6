"""The batches that a model is scored on."""

import itertools

import keras
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
        Tuples `(x, y, sample_weight)` of nested tensors, floating point ones in
        `keras.config.floatx()`, or `None`.

    Raises:
        ValueError: If `batches` is empty, endless without `steps`, or one is not a tuple.
    """
    if steps is not None:
        positive_integer("steps", steps)
    elif _is_endless(batches):
        raise ValueError(
            "Argument `steps` must say how many batches to use where they never end. "
            "Received: steps=None"
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
        raise ValueError(f"Argument `batches` must have a batch. Received: {batches!r}, empty")


def _iterator(batches):
    if isinstance(batches, tuple):
        return iter([batches])
    if isinstance(batches, keras.utils.PyDataset):
        size = batches.num_batches
        return (batches[i] for i in (itertools.count() if size is None else range(size)))
    try:
        return iter(batches)
    except TypeError:
        raise ValueError(
            "Argument `batches` must be a tuple `(x, y)` or an iterable of such tuples. "
            f"Received: {batches!r}"
        ) from None


def _is_endless(batches):
    if isinstance(batches, keras.utils.PyDataset):
        return batches.num_batches is None
    # A `tf.data.Dataset` that repeats for ever says -1, one that cannot tell says -2.
    return hasattr(batches, "cardinality") and int(batches.cardinality()) == -1


def _to_tensor(array):
    if array is None:
        return None
    tensor = ops.convert_to_tensor(array)
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype)):
        return ops.cast(tensor, keras.config.floatx())
    return tensor
