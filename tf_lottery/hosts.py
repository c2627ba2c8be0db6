"""Reads and writes variables, and files, in a training that several processes share.

With `keras.distribution` on JAX, every process runs the same program, and a variable can be spread
over devices of all of them. Between batches, callbacks compute with NumPy arrays: every process
gets the whole array, computes the same from it, and keeps its own share of the result. All
processes must therefore call these functions in the same order.
"""

import zlib

import keras
import numpy as np


def is_shared():
    """Returns whether several processes train one model.

    They do if the distribution has devices of several processes. With those of its own process
    alone, every process of a job trains another model.

    Example:

    >>> is_shared()
    False
    """
    if keras.backend.backend() != "jax" or keras.distribution.distribution() is None:
        return False
    return keras.distribution.distribution().device_mesh.backend_mesh.is_multi_process


def is_writer():
    """Returns whether this process is the one that writes files.

    Example:

    >>> is_writer()
    True
    """
    if not is_shared():
        return True
    import jax

    return jax.process_index() == 0


def to_numpy(value):
    """Returns a tensor or variable as a NumPy array, with the shards that other hosts have.

    Every host gets all of it, through the memory of a device.

    Args:
        value: Tensor, Keras variable or NumPy array.

    Example:

    >>> to_numpy(sparse.selection.masks[0]).shape
    (8, 10)
    """
    if keras.backend.backend() == "jax" and not isinstance(value, np.ndarray):
        tensor = keras.ops.convert_to_tensor(value)
        if not (tensor.is_fully_addressable or tensor.is_fully_replicated):
            from jax.experimental import multihost_utils

            return multihost_utils.process_allgather(tensor, tiled=True)
    return keras.ops.convert_to_numpy(value)


def assign(variable, value):
    """Sets a variable, of which every process writes the shards of its own devices.

    `keras.Variable.assign` would first copy the whole value to one device.

    Args:
        variable: Keras variable.
        value: NumPy array, the same in all processes.

    Example:

    >>> assign(sparse.selection.masks[0], np.ones((8, 10), bool))
    """
    if (
        keras.backend.backend() == "jax"
        and not (sharding := variable.value.sharding).is_fully_addressable
    ):
        import jax

        array = np.asarray(value, variable.value.dtype)
        value = jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
    variable.assign(value)


def on_writer(function, *args):
    """Calls a function that writes files in one process. The others wait until it has returned.

    Args:
        function: Function that neither reads shared variables nor calls this module.
        *args: Its arguments.

    Returns:
        What the function returns, `None` in the other processes.

    Raises:
        OSError: In the other processes, if the function raised an error.

    Example:

    >>> on_writer(max, 1, 2)
    2
    """
    if not is_shared():
        return function(*args)
    result = error = None
    if is_writer():
        try:
            result = function(*args)
        except Exception as raised:
            error = raised
    has_failed = _of_all(error is not None).any()
    if error is not None:
        raise error
    if has_failed:
        raise OSError("Process 0 could not write the files of all; its own message says why")
    return result


def check_same(value, name, path):
    """Checks that all processes found the same in a file.

    Args:
        value: Anything with a `repr`.
        name: String, the argument that named the file or its folder.
        path: The file.

    Raises:
        ValueError: In all processes, if the values differ.

    Example:

    >>> check_same({"epoch": 3}, "path", "checkpoint.npz")
    """
    if not is_shared():
        return
    found = _of_all(np.uint32(zlib.crc32(repr(value).encode())))
    if (found != found[0]).any():
        raise ValueError(
            f"Argument `{name}` must be on a disk that all processes share. "
            f"Received: {str(path)!r}, which is another file for the processes "
            f"{np.flatnonzero(found != found[0]).tolist()} than for process 0"
        )


def _of_all(value):
    """Returns an array with the number that every process gave, in their order."""
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(np.asarray(value))


def check_strategy(model):
    """Raises an error for a model of several workers of TensorFlow, which Keras cannot fit.

    Args:
        model: A `keras.Model`.

    Raises:
        ValueError: If the model is on several workers of `MultiWorkerMirroredStrategy`.

    Example:

    >>> check_strategy(sparse)
    """
    # Other backends have no strategies.
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is None:
        return
    import tensorflow as tf

    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return
    resolver = strategy.cluster_resolver
    workers = 0 if resolver is None else sum(map(len, resolver.cluster_spec().as_dict().values()))
    if workers > 1:
        raise ValueError(
            "Training on several hosts needs JAX with `keras.distribution`, since `fit` of Keras 3 "
            "fails with `MultiWorkerMirroredStrategy`. "
            f"Received: {model.name!r}, a model on {workers} workers of that strategy"
        )
