"""Script for the tests: a search in two processes, and the functions of `hosts`.

Its arguments are those of `benchmarks/several_hosts_cases.py`. It prints errors about files.
Imports take as long as the search, so the second process is a fork of the first. TensorFlow is
hidden, since Keras would import it only to set its seed.
"""

import os
import pathlib
import sys
import unittest.mock

import numpy as np

sys.modules["tensorflow"] = None
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "benchmarks"))


def search(bench):
    """Searches for tickets in a network that takes little time to compile."""
    import keras

    import tf_lottery as tfl

    layer = keras.layers.Dense(4, use_bias=False, kernel_initializer="zeros", name="output")
    model = keras.Sequential([keras.Input((8,)), layer])
    layer.kernel.assign(np.random.default_rng(1).normal(size=(8, 4)))
    method = tfl.callbacks.IterativeMagnitudePruning(
        2, 1, rate=0.5, rewind_to_step=2, directory=bench.folder, verbose=0
    )
    return bench.fit(tfl.sparsify(model), [method], method.epochs)


def fail():
    raise OSError("no space left")


def print_error(function, *args):
    try:
        function(*args)
    except (OSError, ValueError) as error:
        print(f"error: {error}")


def enter_twice(folder):
    """Locks a folder for all processes, once more, as another run would, and where that fails."""
    from tf_lottery.experiments.folder_lock import locked

    with locked(folder):
        print_error(locked(folder, wait=0).__enter__)
    with unittest.mock.patch("tf_lottery.files.sweep", lambda *args, **kwargs: fail()):
        print_error(locked(folder).__enter__)


def check_copy(sparse):
    """Checks the copy of a network whose kernel has its halves in two processes."""
    import tf_lottery as tfl
    from tf_lottery import hosts

    copy, _ = tfl.compact(sparse)
    (expected,) = sparse.get_kernels().values()
    np.testing.assert_array_equal(hosts.to_numpy(copy.layers[-1].kernel), expected)


def check_values(mask):
    """Checks a variable that has its halves in two processes."""
    from tf_lottery import hosts

    values = np.arange(np.prod(mask.shape)).reshape(mask.shape) % 3 == 0
    hosts.assign(mask, values)
    (shard,) = mask.value.addressable_shards
    assert 2 * shard.data.size == values.size
    np.testing.assert_array_equal(shard.data, values[shard.index])
    np.testing.assert_array_equal(hosts.to_numpy(mask), values)


def check_own_model():
    """Checks that a process that trains a model on its own devices waits for no other one."""
    import jax
    import keras

    from tf_lottery import hosts

    shared = keras.distribution.distribution()
    assert hosts.is_shared()
    own = [f"{device.platform}:{device.id}" for device in jax.local_devices()]
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=own))
    assert not hosts.is_shared() and hosts.is_writer()
    keras.distribution.set_distribution(shared)


def main():
    """Trains, checks and makes the errors."""
    import several_hosts_cases as cases

    from tf_lottery import hosts

    cases.CASES["search"] = search
    arguments = cases.arguments()
    arguments.count = 2
    # JAX has no threads before the first use of a device.
    child = os.fork()
    if not child:
        arguments.index = 1
        log = os.open(arguments.out / "fork.log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
    sparse = cases.run(arguments)
    check_copy(sparse)
    check_values(sparse.selection.masks[0])
    check_own_model()
    print_error(hosts.on_writer, fail)
    print_error(hosts.check_same, arguments.index, "directory", "search.npz")
    enter_twice(arguments.out)
    cases.leave(arguments)
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
