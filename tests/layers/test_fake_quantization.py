import numpy as np
import pytest
from keras import ops

from tf_lottery.layers.fake_quantization import (
    TrackedRange,
    fake_quantize,
    fake_quantize_kernel,
)
from tf_lottery.layers.gradients import value_and_gradients

KERNEL = np.array([[1.27, 0.0, 0.0], [0.504, -0.127, 0.0], [-0.126, 0.0504, 0.0]], "float32")


def test_kernels_have_255_symmetric_steps_per_output_channel():
    # Steps of 0.01 and 0.001; a channel without weights stays as it is.
    expected = [[1.27, 0.0, 0.0], [0.50, -0.127, 0.0], [-0.13, 0.050, 0.0]]
    found = ops.convert_to_numpy(fake_quantize_kernel(ops.convert_to_tensor(KERNEL), [-1]))
    np.testing.assert_allclose(found, expected, atol=1e-7)
    np.testing.assert_array_equal(found == 0, KERNEL == 0)


def test_depthwise_kernels_have_a_scale_per_channel_and_multiplier():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 2)).astype("float32")
    scales = np.abs(kernel).max(axis=(0, 1)) / 127
    found = fake_quantize_kernel(ops.convert_to_tensor(kernel), [-2, -1])
    np.testing.assert_allclose(found, np.rint(kernel / scales) * scales, atol=1e-6)


def test_rounding_commutes_with_the_factors_of_batch_normalization():
    factors = np.array([-0.3, 7.0, 1.0], "float32")
    before = fake_quantize_kernel(ops.convert_to_tensor(KERNEL * factors), [-1])
    after = ops.convert_to_numpy(fake_quantize_kernel(ops.convert_to_tensor(KERNEL), [-1]))
    np.testing.assert_allclose(before, after * factors, rtol=1e-5)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (0.5, 2.55), (-3.0, -1.0), (0.0, 0.0)])
def test_activations_have_the_steps_of_int8(low, high):
    x = np.array([-9.0, -0.5, 0.0, 0.004, 0.0118, 1.7, 9.0], "float32")
    low_, high_ = min(low, 0.0), max(high, 0.0)
    scale = max(high_ - low_, 1e-9) / 255
    zero_point = np.rint(-128 - low_ / scale)
    integers = np.clip(np.rint(x / scale) + zero_point, -128, 127)
    found = ops.convert_to_numpy(fake_quantize(ops.convert_to_tensor(x), low, high))
    np.testing.assert_allclose(found, (integers - zero_point) * scale, atol=1e-6)
    assert found[2] == 0


@pytest.mark.backend
def test_gradients_pass_through_the_rounding_but_not_the_ends():
    def loss(tensors):
        kernel, x = tensors
        rounded = fake_quantize_kernel(kernel, [-1]), fake_quantize(x, -1.0, 2.0)
        return ops.sum(2.0 * rounded[0]) + ops.sum(3.0 * rounded[1])

    x = ops.convert_to_tensor([-1.5, -0.3, 0.0, 1.9, 2.5])
    _, (kernel, inputs) = value_and_gradients(loss, [ops.convert_to_tensor(KERNEL), x])
    np.testing.assert_array_equal(kernel, np.full(KERNEL.shape, 2.0))
    np.testing.assert_array_equal(inputs, [0.0, 3.0, 3.0, 3.0, 0.0])


@pytest.mark.backend
def test_ranges_are_moving_averages_of_training_batches():
    tracked = TrackedRange(momentum=0.05)
    x = ops.convert_to_tensor([-1.0, 0.3, 4.0])
    np.testing.assert_array_equal(tracked(x), x)
    assert tracked.range() is None
    for batch in ([-1.0, 4.0], [-2.0, 0.0], [0.0, 9.0]):
        tracked(ops.convert_to_tensor(batch), training=True)
    # The second batch has momentum 1 / 10, but for the 0.05 above it is limited to.
    second = 0.05 * np.array([-1.0, 4.0]) + 0.95 * np.array([-2.0, 0.0])
    expected = 0.05 * second + 0.95 * np.array([0.0, 9.0])
    np.testing.assert_allclose(tracked.range(), expected, rtol=1e-6)
    tracked(x)
    np.testing.assert_allclose(tracked.range(), expected, rtol=1e-6)


def test_integers_become_floats():
    tracked = TrackedRange(momentum=0.9)
    pixels = ops.convert_to_tensor(np.array([0, 100, 255], "uint8"))
    found = ops.convert_to_numpy(tracked(pixels, training=True))
    np.testing.assert_allclose(found, [0.0, 100.0, 255.0])
    assert found.dtype == np.float32
