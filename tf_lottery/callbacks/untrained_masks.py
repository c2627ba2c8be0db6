"""Recognizes masks that keep the largest of untrained weights."""

import numpy as np

from tf_lottery import hosts

# A kernel with fewer active weights may have no small one by chance.
_LEAST_ACTIVE = 50
# Among 50 random weights of a normal or uniform distribution, the chance that none is smaller than
# this share of their median is below 0.001.
_SMALL = 0.3


def is_untrained_magnitude(model):
    """Returns whether a sparse model looks like one pruned by magnitude before any training.

    It does if small weights are missing in every pruned kernel that has enough weights to tell,
    and if biases and normalizations still have one value each. A model without these may have been
    trained, as far as can be seen.

    Args:
        model: A `SparseModel`.

    Example:

    >>> net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(16)])
    >>> is_untrained_magnitude(tfl.sparsify(net, 0.5))
    True
    """
    kernels, masks = model.get_kernels(), model.get_masks()
    active = [np.abs(kernels[path][mask]) for path, mask in masks.items() if not mask.all()]
    active = [values for values in active if values.size >= _LEAST_ACTIVE]
    if not active or not _has_first_vectors(model):
        return False
    return all(values.min() > _SMALL * np.median(values) for values in active)


def _has_first_vectors(model):
    vectors = [v for v in model.model.trainable_variables if len(v.shape) == 1]
    arrays = map(hosts.to_numpy, vectors)
    return bool(vectors) and all(np.ptp(array) == 0 for array in arrays)
