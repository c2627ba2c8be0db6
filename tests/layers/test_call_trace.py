import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl
from tf_lottery._keras import all_layers
from tf_lottery.layers.call_trace import trace, trace_calls
from tf_lottery.layers.inputs import symbolic_inputs


@keras.saving.register_keras_serializable("tests")
class Failing(keras.Model):
    """A model that calls one of its layers and then fails."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)
        self.dense.build((None, 2))
        self.built = True

    def call(self, inputs):
        self.dense(inputs)
        raise RuntimeError("no more layers")


def shapes(model, kinds=(layers.Dense,), **kwargs):
    calls = trace_calls(model, symbolic_inputs(model, **kwargs), kinds)
    return [(call.input_shape, call.output_shape) for call in calls]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("dense", [((1, 6), (1, 8)), ((1, 8), (1, 3))]),
        ("subclassed", [((1, 8), (1, 8)), ((1, 8), (1, 3))]),
        ("dict_inputs", [((1, 4), (1, 4)), ((1, 9), (1, 3))]),
    ],
)
def test_calls_come_in_order_with_their_shapes(make_model, kind, expected):
    assert shapes(make_model(kind)) == expected


def test_every_call_of_a_shared_layer_is_listed(make_model):
    found = shapes(make_model("nested"), (layers.Conv2D,))
    assert found == [((1, 6, 6, 2), (1, 6, 6, 4))] * 2


def test_calls_inside_a_listed_call_are_left_out(make_model):
    model = make_model("attention")
    calls = trace_calls(
        model, symbolic_inputs(model), (layers.MultiHeadAttention, layers.EinsumDense)
    )
    assert [type(call.layer) for call in calls] == [layers.MultiHeadAttention]


def test_wrapper_that_calls_without_the_layers_call_method():
    model = keras.Sequential([keras.Input((5, 4)), layers.TimeDistributed(layers.Dense(3))])
    assert shapes(model) == [((1, 4), (1, 3))] * 5


def test_inputs_given_by_name():
    class ByName(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs=inputs)

    model = ByName()
    model(np.zeros((1, 2), "float32"))
    assert shapes(model) == [((1, 2), (1, 3))]


@pytest.mark.backend
def test_model_is_as_before(make_model, make_data):
    model = make_model("nested")
    x, _ = make_data("nested")
    before, weights = model.predict(x, verbose=0), model.get_weights()
    shapes(model, (layers.Layer,))
    assert not any("call" in vars(layer) for layer in all_layers(model))
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_layers_are_as_before_when_the_model_fails():
    model = Failing()
    with pytest.raises(RuntimeError, match="no more layers"):
        trace_calls(model, keras.KerasTensor((1, 2)), (layers.Dense,))
    assert "call" not in vars(model.dense)


def test_a_call_method_of_the_instances_own_stays(make_model):
    layer = make_model().layers[0]
    own = layer.call
    vars(layer)["call"] = own
    trace_calls(layer, keras.KerasTensor((1, 6)), (layers.Dense,))
    assert vars(layer)["call"] is own


@pytest.mark.backend
def test_variables_that_other_code_reads_are_listed():
    class Squared(layers.Layer):
        """Multiplies with the kernel of a layer, before and after calling the layer."""

        def __init__(self):
            super().__init__()
            self.dense, self.own = layers.Dense(2), layers.Dense(2)
            self.dense.build((None, 2))
            self.own.build((None, 2))

        def call(self, inputs):
            return keras.ops.matmul(self.own(self.dense(inputs)), self.dense.kernel)

    layer = Squared()
    found = trace(layer, keras.KerasTensor((1, 2)), (layers.Dense,))
    assert [call.layer for call in found.calls] == [layer.dense, layer.own]
    assert [id(v) for v in found.read_elsewhere] == [id(layer.dense.kernel)]


def test_masks_do_not_count_as_reading():
    masked = tfl.layers.Masked(layers.Dense(4, name="inside"))
    model = keras.Sequential([keras.Input((3,)), masked, layers.Dense(2)])
    found = trace(model, symbolic_inputs(model), (layers.Dense,))
    assert [call.layer.name for call in found.calls][0] == "inside"
    assert found.read_elsewhere == []
