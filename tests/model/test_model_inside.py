"""Attributes and methods of a sparse model that give the same as the model inside it."""

import keras
import numpy as np
import pytest
from keras import layers

import tf_lottery as tfl

pytestmark = pytest.mark.backend


@pytest.mark.parametrize("kind", ["dense", "nested", "attention", "dict_inputs"])
def test_shapes_and_layers_are_those_of_the_model_inside(kind, make_model, make_data):
    model = make_model(kind)
    sparse = tfl.sparsify(model, sparsity=0.5)
    for name in ("inputs", "outputs", "input_shape", "output_shape"):
        assert getattr(sparse, name) == getattr(model, name)
    assert sparse.count_params() == model.count_params()
    assert sparse.compute_output_shape(sparse.input_shape) == model.output_shape
    last = sparse.get_layer(index=-1)
    assert last is model.layers[-1] is sparse.get_layer(last.name)
    features = keras.Model(sparse.inputs, last.output)
    x, _ = make_data(kind)
    np.testing.assert_allclose(features(x), sparse(x), rtol=1e-5)
    assert sparse(sparse.inputs if kind != "dict_inputs" else model.input).shape == (None, 3)


def test_subclassed_model_has_what_it_has(make_model, make_data):
    model = make_model("subclassed")
    sparse = tfl.sparsify(model, sparsity=0.5)
    for name in ("inputs", "outputs", "input_shape", "output_shape", "input", "output"):
        with pytest.raises(AttributeError, match=name.split("_")[0]):
            getattr(sparse, name)
    assert sparse.get_layer(index=-1) is model.head
    with pytest.raises(ValueError, match="No such layer: nowhere"):
        sparse.get_layer("nowhere")
    assert sparse.count_params() == model.count_params()
    assert sparse(keras.Input((4, 2))).shape == (None, 3)
    sparse.summary(line_length=80, print_fn=lambda text: None)


class NoTraining(keras.Model):
    """A model whose `call` has no argument `training`."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def test_model_whose_call_takes_no_training():
    model = NoTraining()
    model(np.zeros((1, 4), "float32"))
    sparse = tfl.sparsify(model, sparsity=0.5)
    inputs = keras.Input((4,))
    outer = keras.Model(inputs, layers.Dense(1)(sparse(inputs)))
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(outer(x), outer.layers[-1](sparse(x)), rtol=1e-6)


def test_other_arguments_are_those_of_the_model_inside():
    model = keras.Sequential([keras.Input((4, 2)), layers.SimpleRNN(3)])
    sparse = tfl.sparsify(model, sparsity=0.5)
    x, steps = np.ones((1, 4, 2), "float32"), np.array([[True, True, False, False]])
    outputs = sparse(x, mask=steps)
    np.testing.assert_allclose(outputs, model(x, mask=steps), rtol=1e-6)
    assert float(keras.ops.max(keras.ops.abs(outputs - model(x)))) > 1e-3
    # The outputs have no time steps.
    assert sparse.compute_mask(x, steps) is None
    inputs, mask = keras.Input((4, 2)), keras.Input((4,), dtype="bool")
    outer = keras.Model([inputs, mask], sparse(inputs, mask=mask))
    np.testing.assert_allclose(outer([x, steps]), outputs, rtol=1e-6)


def test_summary_is_that_of_the_model_inside(make_model):
    model = make_model("nested")
    sparse = tfl.sparsify(model, sparsity=0.5)
    printed = []
    for either in (model, sparse):
        lines = []
        either.summary(
            line_length=90, expand_nested=True, show_trainable=True, print_fn=lines.append
        )
        printed.append("\n".join(lines))
    assert printed[0] == printed[1]
    assert "block" in printed[0]


def test_export_serves_the_plain_model_and_changes_nothing(make_model, make_data, tmp_path):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras exports with tools of TensorFlow here")
    sparse = tfl.sparsify(make_model(), gate=tfl.SoftGate(0.1))
    x, y = make_data()
    sparse.compile("sgd", "mse", run_eagerly=True)
    sparse.train_on_batch(x, np.zeros((24, 3)))
    weights = sparse.get_weights()
    sparse.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    with sparse.settled() as plain:
        np.testing.assert_allclose(loaded.serve(x), plain(x), rtol=1e-5)
    assert sparse.has_soft_gates
    for weight, expected in zip(sparse.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the converter needs it")
def test_converter_of_tensorflow_is_told_what_to_convert(make_model):
    tf = pytest.importorskip("tensorflow")
    sparse = tfl.sparsify(make_model(), sparsity=0.5)
    with pytest.raises(ValueError, match=r"Give it the plain model, `tfl\.strip\(model\)`"):
        tf.lite.TFLiteConverter.from_keras_model(sparse).convert()
    assert tf.lite.TFLiteConverter.from_keras_model(tfl.strip(sparse)).convert()


def test_export_to_onnx(make_model, make_data, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="no ONNX runtime")
    pytest.importorskip("tf2onnx" if keras.backend.backend() == "tensorflow" else "onnx")
    sparse = tfl.sparsify(make_model(), sparsity=0.5)
    sparse.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    x, _ = make_data()
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(found, sparse.predict(x, verbose=0), rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs a SavedModel")
def test_export_to_openvino_keeps_the_zeros(make_model, make_data, tmp_path):
    openvino = pytest.importorskip("openvino", reason="no OpenVINO")
    sparse = tfl.sparsify(make_model(), sparsity=0.5)
    sparse.export(tmp_path / "model.xml", format="openvino", verbose=False)
    x, _ = make_data()
    model = openvino.Core().read_model(tmp_path / "model.xml")
    constants = [op.get_data() for op in model.get_ops() if op.get_type_name() == "Constant"]
    zeros = sum(array.size - np.count_nonzero(array) for array in constants if array.ndim > 1)
    assert zeros >= sum(np.sum(mask == 0) for mask in sparse.get_masks().values())
    (found,) = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x).values()
    np.testing.assert_allclose(found, sparse.predict(x, verbose=0), rtol=1e-4, atol=1e-6)
