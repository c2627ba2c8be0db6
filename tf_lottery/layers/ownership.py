"""Records on each kernel which wrapper prunes it, so that no second wrapper does."""

import contextlib
import gc
import weakref

_ATTRIBUTE = "_tf_lottery_wrapper"


def claim(kernels, wrapper):
    """Records that a wrapper prunes some kernels.

    Args:
        kernels: List of Keras variables.
        wrapper: The `tf_lottery.layers.Masked`.
    """
    for kernel in kernels:
        # Weak: a wrapper that nobody uses any more does not count.
        setattr(kernel, _ATTRIBUTE, weakref.ref(wrapper))


def release(kernels, wrapper):
    """Undoes `claim`. Kernels that another wrapper has claimed since then are left alone.

    Args:
        kernels: List of Keras variables.
        wrapper: The `tf_lottery.layers.Masked`.
    """
    for kernel in kernels:
        if _owner(kernel) is wrapper:
            delattr(kernel, _ATTRIBUTE)


def check_unclaimed(layer):
    """Raises a `ValueError` if another wrapper prunes weights of a layer.

    Args:
        layer: A built `keras.Layer`.
    """
    if not _owners(layer):
        return
    # Models refer to themselves, so Python may not have deleted unused ones yet.
    gc.collect()
    if owners := _owners(layer):
        raise ValueError(
            f"The weights of {layer.name!r} must not be pruned by another sparse model, since two "
            "would undo each other's pruning. Prune that one further with `tfl.prune`, remove its "
            "masks with `tfl.strip` before, or build the model again. Received: weights that the "
            "sparse model of "
            f"{sorted({owner.layer.name for owner in owners.values()})} prunes: {list(owners)}"
        )


@contextlib.contextmanager
def released_on_error(kernels, wrapper):
    """Context manager that releases kernels if the block raises an error.

    Args:
        kernels: List of Keras variables.
        wrapper: The `tf_lottery.layers.Masked` that has claimed them.
    """
    try:
        yield
    except BaseException:
        # A traceback, which notebooks keep, can keep the wrapper alive.
        release(kernels, wrapper)
        raise


def _owners(layer):
    """Returns a dict from the paths of the weights that wrappers prune to the wrappers."""
    owners = {weight.path: _owner(weight) for weight in layer.weights}
    return {path: owner for path, owner in owners.items() if owner is not None}


def _owner(variable):
    """Returns the wrapper that prunes a variable, or `None`."""
    reference = getattr(variable, _ATTRIBUTE, None)
    return None if reference is None else reference()
