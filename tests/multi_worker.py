"""Script for the tests: trains as one of two workers of `tf.distribute`, and prints the errors.

The environment variable `TF_CONFIG` says who the workers are.
"""

import json

import keras
import numpy as np
import tensorflow as tf

import tf_lottery as tfl


def error_of(function):
    """Returns the message of the error that a function raises, or `None`."""
    try:
        function()
    except Exception as error:
        return str(error)
    return None


def main():
    """Prints the errors as a line of JSON."""
    x, y = np.ones((8, 4), "float32"), np.ones((8, 3), "float32")
    with tf.distribute.MultiWorkerMirroredStrategy().scope():
        plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        plain.compile("sgd", "mse")
        part = tfl.sparsify(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
        part.compile("sgd", "mse")
        whole = keras.Sequential([keras.Input((4,)), part])
        whole.compile("sgd", "mse")
        method = tfl.callbacks.RigL(2, end_step=4, sparse_model=part)
        found = {
            "plain": error_of(lambda: plain.fit(x, y, batch_size=4, verbose=0)),
            "sparse": error_of(lambda: part.fit(x, y, batch_size=4, verbose=0)),
            "callback": error_of(lambda: method.set_model(whole)),
        }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
