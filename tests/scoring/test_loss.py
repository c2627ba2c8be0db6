import keras
import numpy as np
import pytest
from keras import layers, ops

import tf_lottery as tfl
from tf_lottery.scoring.loss import loss_of_weights


def test_some_weights_are_replaced_and_all_other_kernels_masked():
    rng = np.random.default_rng(3)
    model = tfl.sparsify(keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)]))
    first, second = model.kernels.values()
    masks = [np.eye(3, 4, dtype=bool), np.ones((4, 2), bool)]
    model.set_masks(dict(zip(model.kernels, masks, strict=True)))
    kernel = np.array(ops.convert_to_numpy(first))
    first.assign(np.where(masks[0], kernel, 5.0))
    x, y = (rng.normal(size=(5, n)).astype("float32") for n in (3, 2))
    bias = model.model.layers[1].bias
    with loss_of_weights(model, [bias], "mse") as loss_of:
        value = float(loss_of([ops.convert_to_tensor([1.0, 2.0])], x, y, None))
    hidden = x @ kernel
    expected = np.mean((hidden @ ops.convert_to_numpy(second) + [1.0, 2.0] - y) ** 2)
    assert value == pytest.approx(expected, rel=1e-5)
