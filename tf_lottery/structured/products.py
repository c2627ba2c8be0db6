"""Counts the products with the kernels of a model, by which FLOPs left are computed."""

import collections
import math

import keras

from tf_lottery.layers.call_trace import trace_calls
from tf_lottery.layers.inputs import symbolic_inputs
from tf_lottery.layers.kernel_uses import COUNTED, kernel_uses


def count_macs(layer, keys, input_shape=None):
    """Returns the multiply-accumulates with every kernel, for one example.

    Args:
        layer: A built `keras.Layer`.
        keys: Dict from the `id` of weights to their names. Other weights are not counted.
        input_shape: Tuple, the shape of one example, or a structure of them; see
            `tfl.channel_groups`. Defaults to `None`: that with which the layer was built.

    Returns:
        Dict of names to integers.

    Raises:
        ValueError: If the shape of an input is not known.

    Example:

    >>> count_macs(model, {id(model.weights[0]): "hidden"})
    {'hidden': 80}
    """
    inputs = symbolic_inputs(layer, input_shape)
    batch = keras.tree.flatten(inputs)[0].shape[0]
    macs = collections.Counter()
    for call in trace_calls(layer, inputs, COUNTED):
        for kernel, times in kernel_uses(call.layer, call.input_shape, call.output_shape):
            if id(kernel) in keys:
                macs[keys[id(kernel)]] += times * math.prod(kernel.shape) // batch
    return dict(macs)
