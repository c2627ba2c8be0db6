import contextlib

import keras
import numpy as np
import pytest
from keras import layers

from tf_lottery.export import ExportError, conversion
from tf_lottery.export.conversion import convert, keras_outputs
from tf_lottery.export.inputs import make_inputs

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite's converter needs TensorFlow"
)


def outputs_of(model, x=None):
    return keras_outputs(model, make_inputs(model, x, seed=0))


def test_outputs_of_all_steps_one_example_at_a_time():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="d"), layers.Dropout(0.5)])
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    outputs = outputs_of(model, x)
    assert list(outputs) == ["output_0"] and outputs["output_0"].shape == (4, 1, 2)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(outputs["output_0"][:, 0], x @ kernel + bias, rtol=1e-5)


@pytest.mark.parametrize(
    "names, expected",
    [
        (["first", "second"], ["first", "second"]),
        (["1st", "second"], ["output_0", "output_1"]),
    ],
)
def test_names_of_outputs(names, expected):
    inputs = keras.Input((3,))
    outputs = {name: layers.Dense(i + 1)(inputs) for i, name in enumerate(names)}
    model = keras.Model(inputs, outputs)
    found = outputs_of(model)
    assert list(found) == expected
    # In the order of `keras.tree`, which sorts the names.
    assert [values.shape[-1] for values in found.values()] == [1, 2]


def test_state_of_a_layer_is_not_touched():
    layer = layers.SimpleRNN(2, stateful=True)
    model = keras.Sequential([keras.Input((3, 2), batch_size=1), layer])
    outputs_of(model, np.ones((2, 3, 2)))
    assert not np.any(keras.ops.convert_to_numpy(layer.states[0]))


@pytest.mark.parametrize("name", ["kernel", "moving_variance"])
def test_weight_that_is_not_finite_is_named(name):
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2, name="d"), layers.BatchNormalization(name="b")]
    )
    (weight,) = (weight for weight in model.weights if weight.name == name)
    values = np.ones(weight.shape)
    values.reshape(-1)[1] = np.nan
    weight.assign(values)
    message = rf"finite weights\. Nothing was written\. .*NaN or infinity in '.*{weight.path}'"
    with pytest.raises(ExportError, match=message):
        outputs_of(model)


def test_output_that_is_not_finite_is_named():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, {"fine": layers.Dense(2)(inputs), "log": keras.ops.log(-inputs)})
    with pytest.raises(ExportError, match=r"finite outputs.*model='.*Keras' own outputs \['log'\]"):
        outputs_of(model, np.ones((2, 3)))


def test_file_is_dense_and_float32(convert_model, run_file):
    model = keras.Sequential([keras.Input((16,)), layers.Dense(8), layers.ReLU()])
    kernel = model.get_weights()[0] * (np.arange(16)[:, None] % 8 == 0)
    model.set_weights([kernel, np.ones(8)])
    content = convert_model(model)
    assert np.ascontiguousarray(kernel.T).tobytes() in content
    x = np.ones((1, 16), "float32")
    np.testing.assert_allclose(run_file(content, x)[0], np.maximum(x @ kernel + 1, 0), rtol=1e-5)


@on_tensorflow
def test_operation_unknown_to_tflite_is_named():
    inputs = keras.Input((2, 2))
    model = keras.Model(inputs, keras.ops.svd(layers.Dense(2)(inputs), compute_uv=False))
    made = make_inputs(model, None, seed=0)
    with pytest.raises(ExportError, match=r"Received: model='.*', refused .* for Svd$"):
        convert(model, made, list(keras_outputs(model, made)))


@on_tensorflow
def test_model_whose_code_fails_is_refused(tmp_path, monkeypatch, real_processes):
    (tmp_path / "convert.py").touch()
    monkeypatch.setattr(conversion, "TASKS", tmp_path)

    class Fails(keras.Model):
        def call(self, inputs):
            if not hasattr(inputs, "numpy"):
                raise LookupError("only eager")
            return inputs

    model = Fails()
    made = make_inputs(model, np.ones((2, 3), "float32"), seed=0)
    with pytest.raises(
        ExportError, match="(?s)model='fails', refused .* LookupError: .*only eager"
    ):
        convert(model, made, ["output_0"])


def test_keras_computes_on_the_cpu(monkeypatch):
    # Accelerators may round the operands of float32 products.
    active, seen = [], []

    @contextlib.contextmanager
    def device(name):
        active.append(name)
        yield
        active.pop()

    class Spy(layers.Layer):
        def call(self, inputs):
            seen.extend(active)
            return inputs

    model = keras.Sequential([keras.Input((3,)), Spy()])
    monkeypatch.setattr(keras, "device", device)
    outputs_of(model, np.ones((2, 3)))
    assert seen == ["cpu", "cpu"] and active == []


@on_tensorflow
@pytest.mark.parametrize(
    ("policy", "advice"),
    [
        ("mixed_float16", "layers compute in float16: build .* 'float32'"),
        ("int8_from_float32", "layers are quantized to int8: export .* before, with .*'int8'"),
    ],
)
def test_other_types_than_float32_name_the_way_out(policy, advice):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype=policy)])
    made = make_inputs(model, np.ones((1, 3), "float32"), seed=0)
    with pytest.raises(ExportError, match=advice):
        convert(model, made, ["output_0"])
