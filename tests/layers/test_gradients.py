import keras
import numpy as np
import pytest
from keras import ops

from tf_lottery.layers.gradients import (
    compile_function,
    hessian_products,
    value_and_gradients,
)

pytestmark = pytest.mark.backend


def cubic(tensors, factor):
    return factor * (ops.sum(tensors[0] ** 3) + tensors[1] * ops.sum(tensors[0]))


def test_value_and_gradients_of_a_list_of_tensors():
    tensors = [ops.convert_to_tensor([1.0, 2.0]), ops.convert_to_tensor(4.0)]
    value, gradients = value_and_gradients(cubic, tensors, 10.0)
    assert float(value) == 10 * (1 + 8 + 4 * 3)
    np.testing.assert_allclose(gradients[0], [70.0, 160.0])
    np.testing.assert_allclose(gradients[1], 30.0)


def test_gradients_nest():
    def directional(tensors, direction):
        _, gradients = value_and_gradients(cubic, tensors, 1.0)
        return ops.sum(gradients[0] * direction)

    tensors = [ops.convert_to_tensor([1.0, 2.0]), ops.convert_to_tensor(4.0)]
    direction = ops.convert_to_tensor([1.0, -1.0])
    for function in (directional, compile_function(directional)):
        value, gradients = value_and_gradients(function, tensors, direction)
        assert float(value) == 7 - 16
        np.testing.assert_allclose(gradients[0], [6.0, -12.0])
        np.testing.assert_allclose(gradients[1], 0.0)


@ops.custom_gradient
def cube(x):
    def gradient(*args, upstream=None):
        return (args[0] if upstream is None else upstream) * 3 * x**2

    return x**3, gradient


@pytest.mark.parametrize("power", [lambda x: x**3, cube])
def test_hessian_products(power):
    """`x**3 + x*y` has the Hessian `[[6x, 1], [1, 0]]`; the test sums over several such terms."""

    def function(tensors, factor):
        return factor * (ops.sum(power(tensors[0])) + tensors[1] * ops.sum(tensors[0]))

    tensors = [ops.convert_to_tensor([1.0, 2.0]), ops.convert_to_tensor(4.0)]
    directions = [ops.convert_to_tensor([1.0, -1.0]), ops.convert_to_tensor(3.0)]
    for products in (hessian_products, compile_function(lambda *a: hessian_products(function, *a))):
        args = (function,) if products is hessian_products else ()
        first, second = products(*args, tensors, directions, 10.0)
        np.testing.assert_allclose(first, [10 * (6 + 3), 10 * (-12 + 3)])
        np.testing.assert_allclose(second, 0.0, atol=1e-6)


def test_tensors_without_effect_have_zero_gradients():
    tensors = [ops.ones((2,)), ops.ones((3, 2))]
    _, gradients = value_and_gradients(lambda xs: ops.sum(xs[0]), tensors)
    np.testing.assert_array_equal(gradients[1], np.zeros((3, 2)))


def test_functions_without_a_gradient():
    """Linear functions have a zero Hessian, and constants have zero gradients."""
    tensors, directions = [ops.ones((2,))], [ops.ones((2,))]
    (product,) = hessian_products(lambda xs: ops.sum(xs[0]), tensors, directions)
    np.testing.assert_array_equal(product, np.zeros(2))
    value, gradients = value_and_gradients(lambda xs: ops.convert_to_tensor(3.0), tensors)
    assert float(value) == 3
    np.testing.assert_array_equal(gradients[0], np.zeros(2))


def test_gradients_can_be_read_as_arrays():
    """Also gradients of trained variables, which require gradients on PyTorch."""
    variable = keras.Variable(np.array([1.0, 2.0], "float32"))
    value, gradients = value_and_gradients(lambda xs: ops.sum(xs[0] ** 2), [variable.value])
    assert np.asarray(value) == 5
    assert np.asarray(gradients[0]).tolist() == [2.0, 4.0]


def test_gradients_of_looked_up_rows_are_dense():
    table = ops.ones((4, 2))
    indices = ops.convert_to_tensor([2, 2, 0], dtype="int32")
    _, gradients = value_and_gradients(
        lambda xs: ops.sum(ops.take(xs[0], indices, axis=0)), [table]
    )
    np.testing.assert_array_equal(gradients[0], [[1, 1], [0, 0], [2, 2], [0, 0]])


def test_compiled_functions_take_nested_arguments_of_any_batch_size():
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    layer.build((None, 2))
    function = compile_function(lambda x: layer(x["a"]) + ops.sum(x["b"]))
    for size in (1, 3):
        x = {"a": np.ones((size, 2), "float32"), "b": np.ones(size, "float32")}
        np.testing.assert_array_equal(function(x), np.full((size, 1), 2.0 + size))


@pytest.mark.parametrize("call", [value_and_gradients, lambda f, _: compile_function(f)])
def test_other_backends_are_refused(call, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(ValueError, match="'tensorflow', 'jax' or 'torch'.*Received: 'numpy'"):
        call(len, [])
