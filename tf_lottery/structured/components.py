"""Connected components of a graph of numbered items: union-find with arrays."""

import numpy as np


def components(count, first, second):
    """Labels items so that connected ones have the same label.

    Args:
        count: Integer, the number of items.
        first: Integer array.
        second: Integer array of the same length: item `first[k]` is connected to `second[k]`.

    Returns:
        Integer array of shape `(count,)`: the lowest item of each item's component.

    Example:

    >>> components(5, np.array([4, 1]), np.array([2, 4]))
    array([0, 1, 1, 3, 1])
    """
    labels = np.arange(count)
    while True:
        ends = labels[first], labels[second]
        low, high = np.minimum(*ends), np.maximum(*ends)
        if np.array_equal(low, high):
            return labels
        # The labels of the ends are roots; every round connects roots to lower ones.
        np.minimum.at(labels, high, low)
        while not np.array_equal(labels, labels[labels]):
            labels = labels[labels]
