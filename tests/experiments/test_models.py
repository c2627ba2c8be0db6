import numpy as np
import pytest

import tf_lottery as tfl
from tf_lottery.experiments import models


def test_lenet_has_the_papers_size():
    model = models.lenet_300_100(seed=0)
    assert model.count_params() == 266_610
    assert tfl.summary(model).size == 266_200
    assert model.output_shape == (None, 10)


def test_resnet_has_the_papers_size():
    model = models.resnet_20(seed=0)
    # 0.27 million in the paper, with 1x1 convolutions a little more.
    assert tfl.summary(model).size == 270_896
    assert sum(len(w.shape) == 4 for w in model.weights) == 21
    assert model.output_shape == (None, 10)


@pytest.mark.parametrize("make", [models.lenet_300_100, models.resnet_20])
def test_initial_weights_depend_on_the_seed_alone(make):
    first, again, other = make(seed=3).weights, make(seed=3).weights, make(seed=4).weights
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert len(a.shape) < 2 or not np.array_equal(a, c)


@pytest.mark.parametrize("make", [models.lenet_300_100, models.resnet_20])
def test_other_shapes(make):
    model = make((8, 8, 1), num_classes=3)
    assert model(np.zeros((2, 8, 8, 1), "float32")).shape == (2, 3)
