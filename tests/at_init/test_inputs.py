import keras
import numpy as np
import pytest
from keras import layers

from tf_lottery.at_init.inputs import ones


@pytest.mark.parametrize("kind", ["dense", "nested", "recurrent", "subclassed", "dict_inputs"])
def test_shapes_and_types_are_those_of_the_inputs(kind, make_model, make_data):
    model, (x, _) = make_model(kind), make_data(kind)

    def check(one, example):
        np.testing.assert_array_equal(one, np.ones((1, *example.shape[1:])))
        assert keras.backend.standardize_dtype(one.dtype) == example.dtype

    keras.tree.map_structure(check, ones(model), x)
    model(ones(model))


def test_given_inputs_decide():
    model = keras.Sequential([keras.Input((None, 2)), layers.LSTM(2)])
    assert ones(model, np.zeros((7, 5, 2), "float32")).shape == (1, 5, 2)
    with pytest.raises(ValueError, match=r"`inputs` must be given.*\(None, None, 2\)"):
        ones(model)


def test_models_that_do_not_know_their_inputs():
    class Unknown(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)
            self.dense.build((None, 3))
            self.built = True

        def call(self, inputs):
            return self.dense(inputs)

    with pytest.raises(ValueError, match="`inputs` must be given"):
        ones(Unknown())
