"""The unlabelled inputs that a model is calibrated with."""

import keras
import numpy as np

from tf_lottery.checks import positive_integer


def input_batches(name, data, batch_size):
    """Returns a list of batches of inputs, nested as the model takes them.

    Args:
        name: String, the argument's name for messages.
        data: Array or nested arrays with a batch axis; or a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, an iterator of batches. Of batches that are tuples `(x, y)`
            or `(x, y, sample_weight)`, only `x` is used.
        batch_size: Integer > 0, the number of examples in a batch if `data` is arrays.

    Raises:
        ValueError: If there is no example, arrays differ in the number of examples, an input is
            not finite, or the batches never end.

    Example:

    >>> [batch.shape for batch in input_batches("x", np.ones((5, 3)), batch_size=2)]
    [(2, 3), (2, 3), (1, 3)]
    """
    positive_integer("batch_size", batch_size)
    found = _batches_of_data_set(name, data)
    if found is None:
        arrays = keras.tree.map_structure(np.asarray, data)
        counts = {len(array) if array.ndim else 0 for array in keras.tree.flatten(arrays)}
        if len(counts) != 1:
            raise ValueError(
                f"Argument `{name}` must have equally many examples for every input. "
                f"Received: {sorted(counts)}"
            )
        found = [
            keras.tree.map_structure(lambda a, i=i: a[i : i + batch_size], arrays)
            for i in range(0, counts.pop(), batch_size)
        ]
    if not found:
        raise ValueError(f"Argument `{name}` must have at least one example. Received: none")
    for array in keras.tree.flatten(found):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"Argument `{name}` must be finite. Received: NaN or infinity")
    return found


def raw_batches(name, data):
    """Returns an iterator of the batches of a data set as they are, or `None` for arrays.

    Args:
        name: String, the argument's name for messages.
        data: See `input_batches`.

    Raises:
        ValueError: If the batches never end.

    Example:

    >>> list(raw_batches("x", iter([1, 2]))), raw_batches("x", np.ones(3))
    ([1, 2], None)
    """
    if hasattr(data, "cardinality") and int(data.cardinality()) == -1:
        raise ValueError(
            f"Argument `{name}` must end: use `dataset.take(10)`. Received: a data set that repeats"
        )
    if isinstance(data, keras.utils.PyDataset):
        if data.num_batches is None:
            raise ValueError(f"Argument `{name}` must end. Received: a `PyDataset` without end")
        return (data[i] for i in range(data.num_batches))
    if hasattr(data, "__array__") or isinstance(data, list | tuple | dict):
        return None
    return iter(data) if hasattr(data, "__iter__") else None


def _batches_of_data_set(name, data):
    """Returns a list of the inputs of the batches of a data set, or `None` for arrays."""
    batches = raw_batches(name, data)
    if batches is None:
        return None
    # A tuple is always `(x, y)`: several inputs come as a list or dict.
    inputs = (batch[0] if isinstance(batch, tuple) else batch for batch in batches)
    return [keras.tree.map_structure(to_array, batch) for batch in inputs]


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
