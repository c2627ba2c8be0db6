"""Reads the batches on which a model is scored."""

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
    # The cardinality of a `tf.data.Dataset` is -1 if it repeats forever, -2 if it is unknown.
    return hasattr(batches, "cardinality") and int(batches.cardinality()) == -1


def _to_tensor(array):
    if array is None:
        return None
    tensor = ops.convert_to_tensor(array)
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype)):
        return ops.cast(tensor, keras.config.floatx())
    return tensor
