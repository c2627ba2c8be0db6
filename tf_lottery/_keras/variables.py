"""Private parts of Keras' variables, scopes and random states."""

import contextlib
import random

import numpy as np
from keras import ops
from keras.src import backend
from keras.src.backend.common import global_state
from keras.src.backend.common.stateless_scope import get_stateless_scope, in_stateless_scope


def active_scope():
    """Returns the `keras.StatelessScope` that is active, or `None`.

    Reason: the class is public, but there is no public way to get the active scope.
    """
    return get_stateless_scope() if in_stateless_scope() else None


def is_stored(variable):
    """Returns whether a variable has a value.

    Reason: on JAX, Keras removes the value during training, and reading it then fails.

    Args:
        variable: A Keras variable.
    """
    return variable._value is not None


def layout_of(variable):
    """Returns the sharding layout of a variable over devices, or `None`.

    Reason: `keras.Variable` takes the argument `layout`, but has no public attribute for it.

    Args:
        variable: A Keras variable.
    """
    return getattr(variable, "_layout", None)


@contextlib.contextmanager
def stored_values():
    """Makes variables return their stored values, even while a function is traced.

    Reason: inside a `keras.StatelessScope`, a variable has the value of the scope, a tracer on
    JAX, and there is no public way to leave the scope.
    """
    scope = global_state.get_global_attribute("stateless_scope")
    global_state.set_global_attribute("stateless_scope", None)
    try:
        with _eager_scope():
            yield
    finally:
        global_state.set_global_attribute("stateless_scope", scope)


def _eager_scope():
    if backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.init_scope()


@contextlib.contextmanager
def kept_random_state():
    """Restores the global random states of Keras, NumPy and Python after the block.

    Reason: there is no public way to read the state that `keras.utils.set_random_seed` sets.
    """
    name = "global_seed_generator"
    generator = global_state.get_global_attribute(name)
    value = None if generator is None else ops.convert_to_numpy(generator.state).copy()
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        # If there was no generator, the next use creates one.
        global_state.set_global_attribute(name, generator)
        if generator is not None:
            generator.state.assign(value)
