"""Tests of `tf_lottery.layers.products`."""

import numpy as np
import pytest
from keras import ops

from tf_lottery.layers.gradients import value_and_gradients
from tf_lottery.layers.products import gated_product, zeroing_product

pytestmark = pytest.mark.backend


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_products_are_zero_where_a_factor_is_zero(dtype):
    values = ops.cast(np.array([np.nan, np.inf, -2.0, 3.0]), dtype)
    products = zeroing_product(values, np.array([False, False, True, False]))
    assert products.dtype == values.dtype
    assert ops.convert_to_numpy(ops.cast(products, "float32")).tolist() == [0, 0, -2, 0]


def test_gradients_are_zero_where_a_factor_is_zero():
    values = ops.convert_to_tensor(np.array([1.0, np.inf, 2.0], "float32"))
    mask = np.array([True, False, True])
    factors = ops.convert_to_tensor(np.array([3.0, np.nan, 5.0], "float32"))
    _, (gradient,) = value_and_gradients(
        lambda xs: ops.sum(factors * zeroing_product(xs[0], mask)), [values]
    )
    assert ops.convert_to_numpy(gradient).tolist() == [3, 0, 5]


def test_gated_product_has_the_gradient_of_its_formula():
    kernel, s = np.array([[2.0, -1.0]], "float32"), np.array([[0.1, -0.3]], "float32")
    scale, temperature, factor = 1.5, 4.0, np.array([[3.0, 7.0]], "float32")
    numbers = [ops.convert_to_tensor(x, "float32") for x in (scale, temperature, 0.0, temperature)]

    def loss(tensors):
        product, total, _ = gated_product(*tensors, *numbers)
        return ops.sum(ops.convert_to_tensor(factor) * product) + 0.25 * total

    tensors = [ops.convert_to_tensor(kernel), ops.convert_to_tensor(s)]
    value, (of_kernel, of_s) = value_and_gradients(loss, tensors)
    share = 1 / (1 + np.exp(-temperature * s))
    slope = scale * temperature * share * (1 - share)
    np.testing.assert_allclose(
        float(value), (factor * kernel * scale * share + 0.25 * scale * share).sum(), rtol=1e-5
    )
    np.testing.assert_allclose(ops.convert_to_numpy(of_kernel), factor * scale * share, rtol=1e-5)
    expected = (factor * kernel + 0.25) * slope
    np.testing.assert_allclose(ops.convert_to_numpy(of_s), expected, rtol=1e-4)
