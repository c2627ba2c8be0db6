import numpy as np
import pytest

from tf_lottery.export import flatbuffer
from tf_lottery.export.integer_graph import mend
from tf_lottery.export.sparse_flatbuffer import sparsify_flatbuffer

BIAS = np.array([0.5, -0.8, 0.0, 2.0, -1.0, 0.3, 1e-3, 0.7], "float32")


def with_dead_units(kernel):
    """Makes units 1, 2 and 3 dead, and unit 4 almost dead."""
    kernel = kernel.copy()
    kernel[..., 1:4] = 0.0
    kernel[..., 4] *= 1e-12
    return kernel


def layer(builder, kind, pruned):
    """Adds a layer of 8 units and returns its kernel, its inputs and its output."""
    bias = builder.constant(BIAS)
    if kind == "dense":
        kernel, x = with_dead_units(pruned((64, 8), 0.5)), builder.tensor((1, 64))
        y = builder.fully_connected(x, builder.constant(kernel.T), bias)
        return x, y
    if kind == "convolution":
        kernel, x = with_dead_units(pruned((3, 3, 16, 8), 0.9)), builder.tensor((1, 6, 6, 16))
        weights = builder.constant(kernel.transpose(3, 0, 1, 2))
        return x, builder.convolution(x, weights, bias, (1, 4, 4, 8))
    if kind == "transposed":
        kernel, x = with_dead_units(pruned((3, 3, 16, 8), 0.9)), builder.tensor((1, 2, 2, 16))
        shape, y = builder.constant(np.array([1, 4, 4, 8], "int32")), builder.tensor((1, 4, 4, 8))
        fields = {"padding": builder.schema.Padding.VALID, "strideW": 1, "strideH": 1}
        inputs = [shape, builder.constant(kernel.transpose(3, 0, 1, 2)), x, bias]
        options = "TransposeConvOptions", fields
        builder.operator("TRANSPOSE_CONV", inputs, [y], options, version=3)
        return x, y
    kernel, x = with_dead_units(pruned((1, 3, 3, 8), 0.5)), builder.tensor((1, 6, 6, 8))
    y = builder.tensor((1, 4, 4, 8))
    fields = {"padding": builder.schema.Padding.VALID, "strideW": 1, "strideH": 1}
    fields |= {"depthMultiplier": 1, "dilationWFactor": 1, "dilationHFactor": 1}
    inputs = [x, builder.constant(kernel), bias]
    builder.operator("DEPTHWISE_CONV_2D", inputs, [y], ("DepthwiseConv2DOptions", fields))
    return x, y


@pytest.mark.parametrize(
    "kind, mode",
    [
        ("dense", "int8"),
        ("convolution", "int8"),
        ("depthwise", "int8"),
        ("transposed", "int8"),
        ("dense", "int16x8"),
    ],
)
def test_dead_units_keep_their_bias(kind, mode, builder, pruned, quantize_file, run_file):
    x, y = layer(builder, kind, pruned)
    content = builder.content([x], [y])
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=builder.graph.tensors[x].shape).astype("float32")
    quantized = quantize_file(content, mode, [{"input_0": inputs}])
    mended = mend(quantized, content)
    assert len(mended) < len(quantized) + 500
    (expected,) = run_file(content, inputs)
    np.testing.assert_allclose(expected[..., 1:5], np.broadcast_to(BIAS, expected.shape)[..., 1:5])
    # The rounding of the 8-bit outputs and, for living units, of the weights.
    step = (expected.max() - expected.min()) / 255
    for file in (mended, sparsify_flatbuffer(mended)):
        for delegates in (True, False):
            (output,) = run_file(file, inputs, delegates=delegates)
            assert np.abs(output - expected)[..., 1:5].max() < 1.01 * step
            assert np.abs(output - expected).max() < 4 * step
    (before,) = run_file(quantized, inputs)
    living = [0, 5, 6, 7]
    np.testing.assert_allclose(output[..., living], before[..., living], atol=1e-6)


def test_file_without_dead_units_stays_as_it_is(pruned, dense_file, quantize_file):
    content = dense_file(pruned((64, 8), 0.5))
    quantized = quantize_file(content, "int8", [{"input_0": np.ones((1, 64), "float32")}])
    assert mend(quantized, content) == quantized


def test_outputs_of_split_that_nothing_reads(builder, pruned, quantize_file, run_file):
    x = builder.tensor((1, 16))
    y = builder.fully_connected(x, builder.constant(pruned((16, 8), 0.0).T))
    axis, halves = builder.constant(np.array(1, "int32")), [builder.tensor((1, 4)) for _ in "ab"]
    builder.operator("SPLIT", [axis, y], halves, ("SplitOptions", {"numSplits": 2}))
    z = builder.tensor((1, 4))
    builder.operator("TANH", [halves[1]], [z])
    content = builder.content([x], [z])
    inputs = np.random.default_rng(0).normal(size=(1, 16)).astype("float32")
    mended = mend(quantize_file(content, "int8", [{"input_0": inputs}]), content)
    model = flatbuffer.read_model(mended)
    (split,) = (
        op for op in model.subgraphs[0].operators if flatbuffer.operator_name(model, op) == "SPLIT"
    )
    tensors = [model.subgraphs[0].tensors[i] for i in (split.inputs[1], *split.outputs)]
    assert {flatbuffer.dtype_name(tensor) for tensor in tensors} == {"int8"}
    (expected,) = run_file(content, inputs)
    for delegates in (True, False):
        (output,) = run_file(mended, inputs, delegates=delegates)
        assert np.abs(output - expected).max() < 0.1
