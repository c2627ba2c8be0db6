import copy
import io
import json
import re
import types

import keras
import numpy as np
import pytest
from keras import layers
from rich.console import Console

import tf_lottery as tfl
from tf_lottery.experiments.models import mobilenet_v1
from tf_lottery.export import (
    conversion,
    flatbuffer,
    flatbuffer_edits,
    sparse_inference_report,
)
from tf_lottery.export.inputs import make_inputs
from tf_lottery.export.sparse_flatbuffer import sparsify_flatbuffer
from tf_lottery.export.xnnpack.layout import Layout
from tf_lottery.export.xnnpack.report import OperatorRow, SparseInferenceReport
from tf_lottery.export.xnnpack.rules import Role

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite's converter needs TensorFlow"
)


def strided(x, layer, *args, padding="symmetric"):
    if padding == "same":
        return layer(*args, strides=2, padding="same")(x)
    sides = 1 if padding == "symmetric" else ((0, 1), (0, 1))
    return layer(*args, strides=2)(layers.ZeroPadding2D(sides)(x))


def mean_head(x):
    return layers.Dense(5)(layers.GlobalAveragePooling2D()(x))


def net(head=mean_head, stem="symmetric", depthwise="symmetric", channels=3, activation="relu6"):
    """A model with a stem and two separable blocks: 32 x 48 + 48 x 48 weights in 1x1 kernels."""
    inputs = keras.Input((32, 32, channels))
    x = strided(inputs, layers.Conv2D, 32, 3, padding=stem)
    x = layers.Conv2D(48, 1)(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.Activation(activation)(x)
    x = strided(x, layers.DepthwiseConv2D, 3, padding=depthwise)
    x = layers.Activation(activation)(layers.Conv2D(48, 1)(x))
    return keras.Model(inputs, head(x))


def prune(model, zeros=0.9):
    for layer in model.layers:
        if type(layer) is layers.Conv2D and tuple(layer.kernel_size) == (1, 1):
            kernel = np.ones(layer.kernel.shape, "float32")
            kernel.reshape(-1)[: round(zeros * kernel.size)] = 0.0
            layer.kernel.assign(kernel)
    return model


def dense_file(model):
    inputs = make_inputs(model, None, seed=0)
    names = [f"output_{i}" for i in range(len(model.outputs))]
    return conversion.convert(model, inputs, names)


def report_of(model):
    """Returns the report of a model, converted with its outputs on one example."""
    return sparse_inference_report(model, np.zeros((1, *model.input_shape[1:]), "float32"))


@pytest.fixture(scope="module")
def base_files():
    """The files of the base net, stored dense and stored sparse."""
    keras.utils.set_random_seed(0)
    dense = dense_file(prune(net()))
    return dense, sparsify_flatbuffer(dense)


def every_operator(x):
    """A model with all kinds of operators that fit."""
    x = layers.Add()([x, layers.Conv2D(48, 1, activation="hard_swish")(x)])
    x = layers.DepthwiseConv2D(5, padding="same", activation="silu")(x)
    x = layers.DepthwiseConv2D(5, 2)(layers.ZeroPadding2D(2)(x))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(48, 1, activation="sigmoid")(layers.Conv2D(16, 1)(gate))
    x = layers.Conv2D(48, 1, activation="gelu")(layers.Multiply()([x, gate]))
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    for operation in (keras.ops.abs, keras.ops.square, layers.LeakyReLU(), layers.ELU()):
        x = operation(x)
    return mean_head(layers.Conv2D(32, 1)(x))


def flat_dense(x):
    return layers.Dense(5)(layers.Flatten()(x))


def through(operation):
    return lambda x: mean_head(layers.Conv2D(48, 1)(operation(x)))


SPARSE = {
    "every operator": dict(head=every_operator),
    "mean keepdims": dict(
        head=lambda x: flat_dense(layers.GlobalAveragePooling2D(keepdims=True)(x))
    ),
    "convolution head": dict(
        head=lambda x: layers.GlobalAveragePooling2D()(
            layers.Conv2D(32, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
        )
    ),
}
DENSE = {
    "stem same": (dict(stem="same"), "CONV_2D", "pads unevenly"),
    "stem uneven": (dict(stem="keras"), "CONV_2D", "pads unevenly"),
    "one channel": (dict(channels=1), "CONV_2D", "1 input channels, not 3"),
    "max head": (
        dict(head=lambda x: layers.Dense(5)(layers.GlobalMaxPooling2D()(x))),
        "REDUCE_MAX",
        "needs channels last. Reduce with `GlobalAveragePooling2D`",
    ),
    "flatten head": (dict(head=flat_dense), "RESHAPE|FULLY_CONNECTED", "vectors|channels last"),
    "unknown operator": (
        dict(head=through(lambda x: keras.ops.cumsum(x, axis=1))),
        "CUMSUM",
        "is not run by XNNPACK",
    ),
}
BROKEN = {
    "depthwise same": (dict(depthwise="same"), "DEPTHWISE_CONV_2D", "ZeroPadding2D"),
    "average pool": (
        dict(head=through(lambda x: layers.AveragePooling2D(2)(x))),
        "AVERAGE_POOL_2D",
        "depthwise convolution of strides 2",
    ),
    "constant": (
        dict(head=through(lambda x: keras.ops.tanh(keras.ops.tanh(x) * 2.0))),
        "MUL",
        "Fold constants",
    ),
    "two heads": (
        dict(head=lambda x: [mean_head(x), layers.Conv2D(32, 1)(x)]),
        "channels last",
        "End every branch in",
    ),
    "convolution head": (
        dict(
            head=lambda x: layers.Flatten()(
                layers.Conv2D(32, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
            )
        ),
        "RESHAPE",
        "Use `GlobalAveragePooling2D` instead",
    ),
    "mean of rows": (
        dict(head=lambda x: flat_dense(keras.ops.mean(x, axis=1))),
        "MEAN",
        "other axes",
    ),
}


@on_tensorflow
@pytest.mark.parametrize("name", SPARSE)
def test_nets_that_are_taken(name):
    report = report_of(prune(net(**SPARSE[name])))
    assert report.verdict == "sparse" and report.problems == {} and report.notes == []
    assert all(row.taken for row in report.rows if row.num_weights)


@on_tensorflow
@pytest.mark.parametrize("name", DENSE)
def test_nets_that_are_not_taken(name):
    arguments, kind, reason = DENSE[name]
    report = report_of(prune(net(**arguments)))
    assert report.verdict == "dense" and not any(row.taken for row in report.rows)
    blocking = [(key, text) for key, text in report.problems.items() if re.match(kind, key)]
    assert blocking and all(re.search(reason, text) for _, text in blocking)


@on_tensorflow
@pytest.mark.parametrize("name", BROKEN)
def test_nets_that_are_mixed_up(name):
    arguments, operator, advice = BROKEN[name]
    report = report_of(prune(net(**arguments)))
    assert report.verdict == "broken"
    (text,) = [f"{key} {value}" for key, value in report.problems.items()]
    assert operator in text and advice in text
    assert sum(row.is_wrong for row in report.rows) == 1


@on_tensorflow
def test_rows_of_a_net_that_is_taken(base_files):
    report = sparse_inference_report(base_files[1])
    rows = [(row.kind, row.output_shape, row.taken, row.num_weights) for row in report.rows]
    assert rows == [
        ("CONV_2D", (1, 16, 16, 32), True, 0),
        ("DEPTHWISE_CONV_2D", (1, 16, 16, 32), True, 0),
        ("CONV_2D", (1, 16, 16, 48), True, 32 * 48),
        ("DEPTHWISE_CONV_2D", (1, 8, 8, 48), True, 0),
        ("CONV_2D", (1, 8, 8, 48), True, 48 * 48),
        ("MEAN", (1, 48), True, 0),
        ("FULLY_CONNECTED", (1, 5), False, 0),
    ]
    zeros = [round(0.9 * 32 * 48), round(0.9 * 48 * 48)]
    assert [row.num_zeros for row in report.rows if row.num_weights] == zeros
    assert report.sparsity == sum(zeros) / (32 * 48 + 48 * 48)
    assert report.rows[0].input_shape == (1, 32, 32, 3)


@on_tensorflow
def test_path_and_bytes_give_the_same(base_files, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(base_files[1])
    report = sparse_inference_report(path)
    assert report == sparse_inference_report(str(path)) == sparse_inference_report(base_files[1])


@on_tensorflow
def test_sparse_model_is_stripped_and_converted():
    model = net()
    report = sparse_inference_report(tfl.sparsify(model, sparsity=0.9, distribution="uniform"))
    assert report.verdict == "sparse" and report.sparsity == pytest.approx(0.9, abs=1e-3)


@on_tensorflow
def test_zeros_that_are_stored_do_not_count(base_files):
    report = sparse_inference_report(base_files[0])
    assert report.verdict == "dense" and report.sparsity == pytest.approx(0.9, abs=1e-3)
    assert list(report.problems.values()) == [
        'the weights are stored dense. Export with `storage="sparse"`.'
    ]


@on_tensorflow
@pytest.mark.parametrize("extra, verdict", [(0, "dense"), (1, "sparse")])
def test_more_than_two_thirds_have_to_be_zero(extra, verdict):
    model = net()
    total = 32 * 48 + 48 * 48
    assert total % 3 == 0
    kernels = [x.kernel for x in model.layers if type(x) is layers.Conv2D and x.kernel_size[0] == 1]
    values = np.ones(total, "float32")
    values[np.random.default_rng(0).permutation(total)[: 2 * total // 3 + extra]] = 0.0
    kernels[0].assign(values[: 32 * 48].reshape(1, 1, 32, 48))
    kernels[1].assign(values[32 * 48 :].reshape(1, 1, 48, 48))
    report = report_of(model)
    assert report.verdict == verdict
    if not extra:
        (text,) = report.problems.values()
        assert "2,560 of 3,840 weights" in text and "70% or more" in text


@on_tensorflow
@pytest.mark.parametrize("storage, verdict", [("float16", "sparse"), ("dynamic", "dense")])
def test_precision_of_storage_and_of_arithmetic(storage, verdict):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(prune(net()))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if storage == "float16":
        converter.target_spec.supported_types = [tf.float16]
    content = sparsify_flatbuffer(converter.convert())
    report = sparse_inference_report(content)
    assert report.verdict == verdict and report.sparsity == pytest.approx(0.9, abs=1e-3)
    if storage == "dynamic":
        assert all("computes with int8" in text for text in report.problems.values())


@on_tensorflow
def test_int8_storage_of_weights(base_files):
    report = sparse_inference_report(sparsify_flatbuffer(with_int8_weights(base_files[0])))
    assert report.verdict == "sparse" and report.sparsity == pytest.approx(0.9, abs=1e-3)


def with_int8_weights(content):
    """Returns the file with int8 weights, each read through a DEQUANTIZE operator."""
    from ai_edge_litert import schema_py_generated as schema

    model = flatbuffer.read_model(content)
    graph = model.subgraphs[0]
    for operator in list(graph.operators):
        if flatbuffer.operator_name(model, operator) == "CONV_2D":
            tensor = graph.tensors[operator.inputs[1]]
            values = flatbuffer.stored_values(model, tensor)
            stored = copy.copy(tensor)
            stored.type = schema.TensorType.INT8
            stored.buffer = flatbuffer_edits.add_buffer(model, np.sign(values).astype("int8"))
            stored.quantization = schema.QuantizationParametersT(scale=[1.0], zeroPoint=[0])
            tensor.buffer = 0
            graph.tensors.append(stored)
            unpacking = schema.OperatorT(
                opcodeIndex=flatbuffer_edits.operator_code(model, "DEQUANTIZE", 2),
                inputs=[len(graph.tensors) - 1],
                outputs=[operator.inputs[1]],
            )
            graph.operators.insert(graph.operators.index(operator), unpacking)
    return flatbuffer.write_model(model)


@pytest.mark.thorough("two nets of 27 layers; smaller ones have every kind of padding")
def test_operators_without_the_shape_of_an_image(builder):
    image = builder.constant(np.ones((1, 2, 2, 1), "float32"))
    size, axes = (builder.constant(np.array([4, 4], "int32")) for _ in range(2))
    resized, unknown, mean = (builder.tensor(shape) for shape in ((1, 4, 4, 1), (), ()))
    builder.operator("RESIZE_BILINEAR", [image, size], [resized])
    builder.operator("MEAN", [unknown, axes], [mean], ("ReducerOptions", {}))
    report = sparse_inference_report(builder.content([unknown], [resized, mean]))
    assert [row.reason for row in report.rows] == ["works on vectors"] * 2


@pytest.mark.parametrize("kind", ["DENSIFY", "RELU"])
def test_operators_in_a_circle(kind, builder):
    x, y = builder.tensor((1, 4)), builder.tensor((1, 4))
    builder.operator(kind, [y], [x])
    builder.operator(kind, [x], [y])
    builder.operator("RELU", [y], [builder.tensor((1, 4))])
    assert sparse_inference_report(builder.content([], [y])).verdict == "dense"


@on_tensorflow
def test_mobilenet():
    symmetric = mobilenet_v1((32, 32, 3), 10, 0, width=0.25, symmetric_padding=True)
    pooled = layers.GlobalAveragePooling2D()(symmetric.get_layer("pool").input)
    model = prune(keras.Model(symmetric.input, layers.Dense(10)(pooled)))
    assert report_of(model).verdict == "sparse"
    model = mobilenet_v1((32, 32, 3), 10, 0, width=0.25, symmetric_padding=False)
    report = report_of(prune(model))
    assert report.verdict == "dense"
    padded = {k: text for k, text in report.problems.items() if "CONV_2D" in k}
    assert [key.split()[0] for key in padded] == ["CONV_2D"] + 4 * ["DEPTHWISE_CONV_2D"]
    assert all("pads" in x and "`ZeroPadding2D(1)`" in x for x in padded.values())


def test_report_as_dict_and_text():
    row = OperatorRow(3, "block", "CONV_2D", (1, 8, 8, 4), (1, 8, 8, 5), 20, 15, **decided())
    wrong = OperatorRow(
        4, "end", "CONV_2D", (1, 8, 8, 5), (1, 8, 8, 2), 0, 0, **decided(True, "mixed up", "Add x.")
    )
    report = SparseInferenceReport([row], [])
    assert (report.verdict, report.sparsity, report.problems) == ("sparse", 0.75, {})
    report = SparseInferenceReport([row, wrong], ["a note"])
    data = json.loads(json.dumps(report.to_dict()))
    assert data["verdict"] == "broken" and data["notes"] == ["a note"]
    assert data["problems"] == {"CONV_2D 4": "mixed up. Add x."}
    assert data["operators"][0]["sparsity"] == 0.75 and data["operators"][1]["sparsity"] is None
    assert data["operators"][0]["output_shape"] == [1, 8, 8, 5]
    text = str(report)
    assert text.startswith("broken: ") and "1 of 2 operators are taken; 75.00% of" in text
    assert "CONV_2D 4: mixed up. Add x." in text and "a note" in text
    assert "CONV_2D 3" not in text
    console = Console(file=io.StringIO(), width=80)
    console.print(report.to_table(verbose=True))
    assert "CONV_2D 3, 1 x 8 x 8 x 5" in console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80])
def test_text_of_a_large_network_begins_with_the_verdict(width):
    rows = []
    for number in range(90):
        reason, advice = ("is dilated", "Use it.") if number % 3 else (f"is {number} wide", "No.")
        state = {"taken": False, "is_wrong": False, "blocks": number % 3 > 0}
        row = number, "layer", "CONV_2D", (1, 8, 8, 5), (1, 8, 8, 2), 20, 5
        rows.append(OperatorRow(*row, **state, reason=reason, advice=advice))
    report = SparseInferenceReport(rows, [])
    assert report.reasons[0] == ("is dilated", "Use it.", 60) and len(report.reasons) == 31
    console = Console(file=io.StringIO(), width=width)
    console.print(report)
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith("dense: XNNPACK computes") and len(lines) < 30
    assert max(map(len, lines)) <= width
    assert any("60" in line and "is dilated" in line for line in lines)
    assert any("26" in line and "for other reasons" in line for line in lines)


def decided(is_wrong=False, reason="", advice=""):
    return dict(taken=True, is_wrong=is_wrong, blocks=False, reason=reason, advice=advice)


def fake(inputs, outputs, weights=0):
    return types.SimpleNamespace(
        kind="CONV_2D" if weights else "ABS",
        inputs=inputs,
        outputs=outputs,
        weights_shape=(weights, 1, 1, 1) if weights else (),
        num_zeros=weights,
        axes={1, 2},
    )


ENTERS, INSIDE, LEAVES, NEITHER = (
    Role(enters=True),
    Role(inside=True),
    Role(leaves=True),
    Role(reason="x"),
)


def test_cluster_read_by_an_operator_outside_is_excluded():
    nodes = [fake([0], [1]), fake([1], [2], 9), fake([2], [3]), fake([2], [4])]
    layout = Layout(nodes, [ENTERS, INSIDE, LEAVES, NEITHER], {3, 4})
    assert layout.taken == set() and layout.wrong == set() and layout.misread == {1}


def test_cluster_that_ends_inside_is_wrong():
    nodes = [fake([0], [1]), fake([1], [2], 9), fake([2], [3]), fake([2], [4], 9)]
    layout = Layout(nodes, [ENTERS, INSIDE, LEAVES, INSIDE], {3, 4})
    assert layout.taken == {0, 1, 2, 3} and layout.wrong == {3}


def test_nothing_happens_without_an_end_behind_a_fitting_operator():
    nodes = [fake([0], [1]), fake([1], [2], 9), fake([2], [3]), fake([3], [4])]
    layout = Layout(nodes, [ENTERS, INSIDE, NEITHER, LEAVES], {4})
    assert not layout.has_end and layout.taken == set() and layout.broken == {3}


def test_operators_behind_one_that_does_not_fit_are_broken():
    nodes = [fake([0], [1]), fake([1], [2], 9), fake([2], [3], 9), fake([3], [4])]
    layout = Layout(nodes, [NEITHER, INSIDE, INSIDE, LEAVES], {4})
    assert layout.broken == {1, 2, 3} and layout.taken == set()


@pytest.mark.parametrize("value", [None, 7, keras.Sequential([layers.Dense(2)])])
def test_wrong_argument(value):
    with pytest.raises(ValueError, match=r"(?s)Argument `model_or_file` must .*Received: .+"):
        sparse_inference_report(value)


def test_file_that_is_none():
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(ValueError, match=r"must be a TFLite file.*Received: "):
        sparse_inference_report(b"no file at all")
    with pytest.raises(FileNotFoundError):
        sparse_inference_report("missing.tflite")


def test_model_on_another_backend(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(RuntimeError, match=r"needs Keras on TensorFlow.*Received: .*'jax'"):
        sparse_inference_report(model)
