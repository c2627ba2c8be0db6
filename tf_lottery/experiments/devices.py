"""Trains on all accelerators of this machine."""

import contextlib
import math
import warnings

import keras

# Examples per step of an evaluation.
_EVALUATED = 1000


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


def evaluation_batch_size(examples):
    """Returns how many examples to evaluate at once, so that devices share all batches or none.

    Keras lays out all batches as it does the first one, which may thus not differ from the last
    one in whether the devices can share it.

    Args:
        examples: Tuple of inputs and an array of labels, or of a data set with its own batches,
            for which this has no effect. `None` if there are none.

    Example:

    >>> evaluation_batch_size((x, y))
    1000
    """
    distribution = keras.distribution.distribution()
    if distribution is None or examples is None or len(examples) < 2:
        return _EVALUATED
    devices = math.prod(distribution.device_mesh.shape)
    if len(examples[1]) % devices == 0:
        return max(_EVALUATED // devices, 1) * devices
    return _EVALUATED if _EVALUATED % devices else _EVALUATED - 1


class _AnyBatch(keras.distribution.DataParallel):
    """Shares batches between devices; those that it cannot share equally go to each of them."""

    def get_data_layout(self, data_shape):
        devices = math.prod(self.device_mesh.shape)
        if data_shape[0] % devices == 0:
            return super().get_data_layout(data_shape)
        warnings.warn(
            f"A batch of {data_shape[0]} examples cannot be shared by {devices} devices, so that "
            "each computes all of it. To save time, use a number of devices that divides it.",
            stacklevel=2,
        )
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)


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
    keras.distribution.set_distribution(_AnyBatch(devices=devices))
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)
