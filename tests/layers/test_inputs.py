import keras
import numpy as np
import pytest
from keras import layers

from tf_lottery.layers.inputs import inputs_like, model_inputs, symbolic_inputs


class Unknown(keras.Model):
    """A model that does not know the shapes of its inputs."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)
        self.dense.build((None, 2))
        self.built = True

    def call(self, inputs):
        return self.dense(inputs)


class Pair(keras.Model):
    """A subclassed model that is built without being called."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(3), layers.Dense(2)

    def build(self, input_shape):
        self.first.build(input_shape)
        self.second.build((*input_shape[:-1], 3))

    def call(self, inputs):
        return self.second(self.first(inputs))


def test_what_is_declared_comes_before_examples(make_model):
    tensor = model_inputs(make_model("recurrent"), np.ones((2, 3), "float64"))
    assert tensor.dtype == "int32" and tensor.shape != (None, 3)


def test_examples_come_before_the_shapes_of_the_build():
    model = Pair()
    model.build((24, 4))
    assert (model_inputs(model).shape, model_inputs(model).dtype) == ((None, 4), "float32")
    tensor = model_inputs(model, np.ones((2, 7, 4), "int64"))
    assert (tensor.shape, tensor.dtype) == ((None, 7, 4), "int64")
    assert model_inputs(Unknown()) is None


def test_floating_point_examples_get_the_default_type():
    tensors = inputs_like({"a": np.ones((2, 3)), "b": [np.ones(5, "int8"), np.ones((1, 1), bool)]})
    found = [(tensor.shape, tensor.dtype) for tensor in keras.tree.flatten(tensors)]
    assert found == [((None, 3), "float32"), ((None,), "int8"), ((None, 1), "bool")]
    assert list(tensors) == ["a", "b"]


def test_inputs_have_the_models_structure_dtypes_and_batch(make_model):
    inputs = symbolic_inputs(make_model("dict_inputs"))
    assert {name: tensor.shape for name, tensor in inputs.items()} == {"a": (1, 4), "b": (1, 5)}
    assert symbolic_inputs(make_model("recurrent")).dtype == "int32"
    fixed = keras.Sequential([keras.Input(batch_shape=(8, 2)), layers.Dense(1)])
    assert symbolic_inputs(fixed).shape == (8, 2)


def test_input_shape_fixes_what_the_model_leaves_open():
    inputs = [keras.Input((None, 2)), keras.Input((None,), dtype="int32")]
    model = keras.Model(inputs, [layers.Dense(1)(inputs[0]), layers.Embedding(3, 1)(inputs[1])])
    found = symbolic_inputs(model, [(7, 2), (5,)])
    assert [(tensor.shape, tensor.dtype) for tensor in found] == [
        ((1, 7, 2), "float32"),
        ((1, 5), "int32"),
    ]


def test_input_shape_of_a_subclassed_model(make_model):
    model = Pair()
    model.build((24, 4))
    assert symbolic_inputs(model).shape == (1, 4)
    assert symbolic_inputs(make_model("subclassed"), (2, 4)).shape == (1, 2, 4)


@pytest.mark.parametrize("input_shape", [None, (None,)])
def test_open_shape_is_refused(input_shape):
    model = keras.Sequential([keras.Input((None,)), layers.Embedding(3, 2)])
    with pytest.raises(ValueError, match=r"`input_shape` must give.*Received: .*\(.*None\)"):
        symbolic_inputs(model, input_shape)


def test_model_that_does_not_know_its_shape_is_refused():
    with pytest.raises(ValueError, match="`input_shape` must give"):
        symbolic_inputs(Unknown())


@pytest.mark.parametrize("input_shape", [(4,), [(4,), (5,)], {"a": (4,)}])
def test_input_shape_that_does_not_fit_is_refused(make_model, input_shape):
    with pytest.raises(ValueError, match="`input_shape` must have a shape for every input"):
        symbolic_inputs(make_model("dict_inputs"), input_shape)
