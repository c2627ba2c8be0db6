"""Look at a sparse model as the plain model that it makes, for good or for a while."""

import contextlib

import keras

from tf_lottery import _keras
from tf_lottery.model import SparseModel, check_sparse_model


def strip(model: SparseModel) -> keras.Model:
    """Gives back the model that was made sparse, zeros written into its kernels.

    Soft gates are settled by it, which ends their round. Soft activations that were not
    annealed to the end are written into the layers.

    Args:
        model: A `SparseModel`.

    Returns:
        The very model that `sparsify` was given, now sparse by its weights alone. It can
        be saved, exported and loaded where `tf_lottery` is not installed, unless it has a soft
        activation that Keras does not have.

    Raises:
        ValueError: If `model` is not a `SparseModel`, none of its soft gates is open, it has
            ghost skips that are in effect, or a layer has changed since it was made sparse.

    Example:

    >>> tfl.strip(tfl.sparsify(model)) is model
    True
    """
    check_sparse_model(model).settle()
    model.apply_masks()
    return model.model


@contextlib.contextmanager
def settled(model):
    """Lends the plain model that `strip` would give back, and changes nothing for good.

    Export, compaction and whatever else reads a sparse model as a plain one look at it in this
    way, so that training can go on afterwards as if nothing had happened. The global states of
    random numbers are kept too, of which every layer that is made takes some.

    Args:
        model: A `SparseModel`, or any other model, which is lent as it is.

    Yields:
        The plain model; see `SparseModel.settled`.

    Example:

    >>> with settled(sparse) as plain:
    ...     predictions = plain.predict(x, verbose=0)
    """
    is_sparse = isinstance(model, SparseModel)
    with (
        _keras.kept_random_state(),
        model.settled() if is_sparse else contextlib.nullcontext(model) as plain,
    ):
        yield plain
