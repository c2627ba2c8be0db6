"""Holds examples out."""

import keras
import numpy as np


def hold_out(part, count, seed):
    """Splits examples at random, in the same way every time.

    The examples are put in the order `np.random.default_rng(seed).permutation`, and the first
    ones are held out.

    Args:
        part: Tuple of arrays or nested arrays with equally many examples, such as `(x, y)`.
        count: Integer, how many examples to hold out.
        seed: Integer.

    Returns:
        Tuple of the examples that are left and of those held out, both like `part`.

    Raises:
        ValueError: If arrays differ in the number of examples, or none would be left.

    Example:

    >>> rest, held_out = hold_out((np.arange(4), np.arange(4)), count=1, seed=0)
    >>> rest[0].tolist(), held_out[1].tolist()
    ([0, 1, 3], [2])
    """
    arrays = keras.tree.map_structure(np.asarray, part)
    counts = {array.shape[:1] for array in keras.tree.flatten(arrays)}
    if len(counts) != 1 or () in counts:
        shapes = [array.shape for array in keras.tree.flatten(arrays)]
        raise ValueError(
            f"Data must have inputs and labels of equally many examples. Received: shapes {shapes}"
        )
    ((total,),) = counts
    if not 0 < count < total:
        raise ValueError(
            f"Data must have more examples, of which {count} are held out. Received: {total}"
        )
    order = np.random.default_rng(seed).permutation(total)
    rest, held_out = (
        keras.tree.map_structure(lambda array, i=indices: array[i], arrays)
        for indices in (order[count:], order[:count])
    )
    return rest, held_out
