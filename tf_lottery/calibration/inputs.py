"""The unlabelled inputs that a model is calibrated with."""

import keras
import numpy as np

from tf_lottery.checks import positive_integer
from tf_lottery.data_sets import raw_batches, to_array


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


def _batches_of_data_set(name, data):
    """Returns a list of the inputs of the batches of a data set, or `None` for arrays."""
    batches = raw_batches(name, data)
    if batches is None:
        return None
    # A tuple is always `(x, y)`: several inputs come as a list or dict.
    inputs = (batch[0] if isinstance(batch, tuple) else batch for batch in batches)
    return [keras.tree.map_structure(to_array, batch) for batch in inputs]
