"""Products of kernels with masks and gates, with few passes over the weights.

TensorFlow's graph mode computes every operation in a pass of its own. Where it has one operation
for what takes several in `keras.ops`, that is used.
"""

import keras
from keras import ops

from tf_lottery.layers.gradients import custom_gradient


def zeroing_product(values, factors):
    """Returns `values * factors`, which is zero where a factor is, even if a value is not finite.

    Args:
        values: Float tensor.
        factors: Boolean or float tensor, of the same shape or a scalar.

    Example:

    >>> products = zeroing_product(ops.convert_to_tensor([np.inf, 2.0]), np.array([False, True]))
    >>> ops.convert_to_numpy(products)
    array([0., 2.], dtype=float32)
    """
    values, factors = ops.convert_to_tensor(values), ops.convert_to_tensor(factors)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.math.multiply_no_nan(values, tf.cast(factors, values.dtype))
    zero = ops.zeros((), values.dtype)
    if keras.backend.standardize_dtype(factors.dtype) == "bool":
        return ops.where(factors, values, zero)
    return ops.where(factors != 0, values * factors, zero)


def gated_product(kernel, s, scale, temperature, threshold, slope, noise=None):
    """Returns `kernel * gate` with `gate = scale * sigmoid(temperature * s - threshold)`.

    The gradient is computed with `slope` in place of the temperature. It is exactly zero for hard
    gates, which have a huge temperature and `slope` 0, so that they survive divergence.

    Args:
        kernel: Float tensor.
        s: Float tensor of the same shape.
        scale: Scalar tensor of the type of `s`, as are the next three.
        temperature: Scalar tensor.
        threshold: Scalar tensor.
        slope: Scalar tensor.
        noise: Tensor of the same shape, uniform between 0 and 1. The kernel is then multiplied
            by `scale` where `scale * noise < gate`, otherwise by zero, with the gradient of the
            gate. Defaults to `None`.

    Returns:
        The product, the sum of the gates, and the gates, which have no gradient.

    Example:

    >>> one, zero = ops.ones(()), ops.zeros(())
    >>> product, total, _ = gated_product(ops.ones((2,)), ops.zeros((2,)), one, one, zero, one)
    >>> ops.convert_to_numpy(product), float(total)
    (array([0.5, 0.5], dtype=float32), 1.0)
    """

    def forward(kernel, s):
        share = ops.sigmoid(temperature * s - threshold)
        gate = scale * share
        factor = gate
        if noise is not None:
            factor = scale * ops.cast(scale * noise < gate, gate.dtype)
        factor = ops.cast(factor, kernel.dtype)

        def backward(of_product, of_total, _):
            of_gate = ops.cast(of_product * kernel, s.dtype) + of_total
            of_s = zeroing_product(_sigmoid_gradient(share, of_gate), scale * slope)
            return of_product * factor, of_s

        return (kernel * factor, scale * ops.sum(share), ops.stop_gradient(gate)), backward

    return custom_gradient(forward)(ops.convert_to_tensor(kernel), s)


def _sigmoid_gradient(outputs, upstream):
    """Returns `upstream * outputs * (1 - outputs)`."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.raw_ops.SigmoidGrad(y=outputs, dy=upstream)
    return upstream * (outputs * (1.0 - outputs))
