"""Converts a sparse model to a plain model, permanently or temporarily."""

import contextlib

import keras

from tf_lottery import _keras
from tf_lottery.layers.ownership import release
from tf_lottery.model import SparseModel, check_sparse_model


def strip(model: SparseModel) -> keras.Model:
    """Returns the plain model inside a sparse model, with zeros written into its kernels.

    It settles soft gates, which ends their round. Soft activations that are not completely
    annealed are written into the layers. The rounding of fake quantization is left out.

    Args:
        model: A `SparseModel`.

    Returns:
        The same model object that `sparsify` was given, with zeros for pruned weights. It can
        be saved, exported and loaded where `tf_lottery` is not installed, unless it has a soft
        activation that Keras does not have. It can be made sparse again.

    Raises:
        ValueError: If `model` is not a `SparseModel`, all its soft gates are closed, it has
            active ghost skips, or a layer has changed since it was made sparse.

    Example:

    >>> tfl.strip(tfl.sparsify(model)) is model
    True
    """
    check_sparse_model(model).settle()
    kernels = list(model.kernels.values())
    model.selection.commit(kernels)
    release(kernels, model.wrapper)
    return model.model


@contextlib.contextmanager
def settled(model):
    """Yields the plain model that `strip` would return, and then undoes all changes.

    Export, compaction and other readers of the plain model use it for sparse and plain models, so
    that training can continue afterwards unchanged.

    Args:
        model: A `SparseModel`, or any other model, which is yielded unchanged.

    Yields:
        The plain model; see `SparseModel.settled`.

    Example:

    >>> with settled(sparse) as plain:
    ...     predictions = plain.predict(x, verbose=0)
    """
    is_sparse = isinstance(model, SparseModel)
    # Creating layers changes the random states, also for a plain model.
    with model.settled() if is_sparse else _keras.kept_random_state():
        yield model.model if is_sparse else model
