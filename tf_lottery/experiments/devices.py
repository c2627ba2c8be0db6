"""Trains on all accelerators of this machine."""

import contextlib

import keras


@contextlib.contextmanager
def on_all_devices():
    """Makes models that are built, and trained, inside share every batch between accelerators.

    On TensorFlow it is `tf.distribute.MirroredStrategy`, on JAX `keras.distribution`. With fewer
    than two accelerators, and on PyTorch, it does nothing.

    Example:

    >>> with on_all_devices():
    ...     sparse = tfl.sparsify(model, sparsity=0.5)
    """
    if keras.backend.backend() == "tensorflow":
        with _mirrored():
            yield
    elif keras.backend.backend() == "jax":
        with _data_parallel():
            yield
    else:
        yield


def count_devices():
    """Returns between how many accelerators `on_all_devices` shares every batch.

    Example:

    >>> batch_size = 32 * count_devices()
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return max(1, len(tf.config.list_logical_devices("GPU")))
    return len(keras.distribution.list_devices()) if keras.backend.backend() == "jax" else 1


def _mirrored():
    import tensorflow as tf

    if count_devices() < 2:
        return contextlib.nullcontext()
    return tf.distribute.MirroredStrategy().scope()


@contextlib.contextmanager
def _data_parallel():
    if count_devices() < 2:
        yield
        return
    before, devices = keras.distribution.distribution(), keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)
