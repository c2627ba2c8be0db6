import copy
import math

import numpy as np
import pytest

from tf_lottery.export import ExportError, flatbuffer, verification
from tf_lottery.export.sparse_flatbuffer import sparsify_flatbuffer


def operators(content):
    """Returns the names and versions of the operators of a file."""
    model = flatbuffer.read_model(content)
    return [
        (flatbuffer.operator_name(model, op), model.operatorCodes[op.opcodeIndex].version)
        for graph in model.subgraphs
        for op in graph.operators
    ]


def sparse_tensors(content):
    model = flatbuffer.read_model(content)
    return [t for graph in model.subgraphs for t in graph.tensors if t.sparsity is not None]


def inputs_of(shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.fixture
def assert_same_outputs(run_file):
    """Returns a function that compares the outputs of two files bit by bit, with and without
    delegates.
    """

    def check(content, other, *inputs, delegates=(True, False)):
        for choice in delegates:
            outputs = run_file(content, *inputs, delegates=choice)
            expected = run_file(other, *inputs, delegates=choice)
            assert all(np.isfinite(output).all() for output in outputs)
            assert all(np.any(output) for output in outputs)
            np.testing.assert_equal(outputs, expected)

    return check


def two_of_four(kernel):
    """Keeps the two largest of every four consecutive inputs."""
    kernel = kernel.copy()
    for start in range(0, len(kernel) - 3, 4):
        smallest = np.argsort(np.abs(kernel[start : start + 4]), axis=0)[:2]
        np.put_along_axis(kernel[start : start + 4], smallest, 0, axis=0)
    return kernel


@pytest.fixture
def kernels(pruned):
    """Returns a function that makes kernels of a width with all patterns and sparsities."""

    def make(width, units=40):
        yield two_of_four(pruned((width, units), 0.0))
        for sparsity in (0.0, 0.5, 0.98, 1.0):
            for block in (1, 4, 16):
                yield pruned((width, units), sparsity, block) * (sparsity < 1)

    return make


@pytest.mark.parametrize("width", [302, 30, 28, 13])
@pytest.mark.parametrize("mode", [None, "float16", "weight_int8"])
def test_dense_layers_are_bit_identical(
    width, mode, kernels, dense_file, quantize_file, assert_same_outputs
):
    num_sparse = 0
    for kernel in kernels(width):
        content = dense_file(kernel, rows=2)
        content = content if mode is None else quantize_file(content, mode)
        packed = sparsify_flatbuffer(content)
        assert len(packed) <= len(content)
        if ("FULLY_CONNECTED", 8) not in operators(packed):
            num_sparse += len(sparse_tensors(packed))
            assert_same_outputs(packed, content, inputs_of((2, width)))
    assert num_sparse >= 3


@pytest.mark.parametrize("mode", [None, "float16", "weight_int8", "int8"])
@pytest.mark.parametrize("shape", [(3, 3, 13, 20), (1, 1, 28, 40), (2, 3, 30, 7)])
def test_convolutions_are_bit_identical(
    shape, mode, pruned, convolution_file, quantize_file, assert_same_outputs
):
    x = inputs_of((1, 6, 6, shape[2]))
    limit = 0.6 if mode in ("weight_int8", "int8") else 0.0
    for sparsity in (0.0, 0.6, 0.98):
        content = convolution_file(pruned(shape, sparsity))
        content = content if mode is None else quantize_file(content, mode, [{"input_0": x}])
        packed = sparsify_flatbuffer(content)
        assert len(sparse_tensors(packed)) == (sparsity > limit)
        assert_same_outputs(packed, content, x)


def test_other_convolutions_are_bit_identical(builder, pruned, assert_same_outputs):
    options = {"padding": builder.schema.Padding.VALID, "strideW": 1, "strideH": 1}
    x = builder.tensor((1, 6, 6, 32))
    depthwise = builder.constant(pruned((1, 3, 3, 32), 0.9))
    y = builder.tensor((1, 4, 4, 32))
    fields = {**options, "depthMultiplier": 1, "dilationWFactor": 1, "dilationHFactor": 1}
    inputs = [x, depthwise, builder.constant(np.zeros(32, "float32"))]
    builder.operator("DEPTHWISE_CONV_2D", inputs, [y], ("DepthwiseConv2DOptions", fields))
    transposed = builder.constant(pruned((5, 3, 3, 32), 0.9))
    z = builder.tensor((1, 6, 6, 5))
    shape = builder.constant(np.array([1, 6, 6, 5], "int32"))
    builder.operator(
        "TRANSPOSE_CONV", [shape, transposed, y], [z], ("TransposeConvOptions", options)
    )
    content = builder.content([x], [z])
    packed = sparsify_flatbuffer(content)
    assert len(sparse_tensors(packed)) == 2
    assert_same_outputs(packed, content, inputs_of((1, 6, 6, 32)))


@pytest.mark.parametrize(
    "width, sparsity, rows, version",
    [(256, 0.9, 1, 8), (256, 0.5, 1, 1), (254, 0.9, 1, 1), (256, 0.9, 16, 1), (256, 0.98, 16, 8)],
)
def test_blocks_of_four_are_multiplied_as_they_are(
    width, sparsity, rows, version, pruned, dense_file, run_file
):
    content = dense_file(pruned((width, 32), sparsity, block=4), rows=rows)
    packed = sparsify_flatbuffer(content)
    unpacking = [("DENSIFY", 1)] if version == 1 else []
    assert operators(packed) == [*unpacking, ("FULLY_CONNECTED", version)]
    assert len(packed) < 0.75 * len(content)
    x = inputs_of((rows, width))
    (expected,) = run_file(content, x, delegates=False)
    for delegates in (True, False):
        (output,) = run_file(packed, x, delegates=delegates)
        assert np.abs(output - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    "width, sparsity, block, optimize_for, is_sparse",
    [
        (256, 0.9, 16, "disk", True),
        # A quarter fewer bytes do not pay for twice the time.
        (256, 0.5, 16, "disk", False),
        (256, 0.5, 16, "latency", False),
        (256, 0.9, 16, "latency", True),
        (256, 0.9, 1, "disk", False),
        (256, 0.9, 1, "latency", False),
        (256, 0.5, 1, "disk", False),
        (250, 0.98, 1, "disk", False),
    ],
)
def test_dynamic_int8(
    width, sparsity, block, optimize_for, is_sparse, pruned, dense_file, quantize_file, run_file
):
    kernel = pruned((width, 64), sparsity, block)
    content = quantize_file(dense_file(kernel), "dynamic_int8")
    packed = sparsify_flatbuffer(content, optimize_for)
    assert (packed != content) == is_sparse == bool(sparse_tensors(packed))
    assert [version == 8 for _, version in operators(packed)] == [is_sparse]
    x = inputs_of((1, width))
    (expected,) = run_file(content, x, delegates=False)
    for delegates in (True, False):
        (output,) = run_file(packed, x, delegates=delegates)
        if is_sparse or not delegates:
            np.testing.assert_allclose(output, expected, atol=1e-5 * np.abs(expected).max())
        assert np.abs(output - x @ kernel).max() < 0.2 * np.abs(expected).max()


def test_smallest_form_is_taken(pruned, dense_file):
    kernel = pruned((1000, 100), 0.9)
    (tensor,) = sparse_tensors(sparsify_flatbuffer(dense_file(kernel)))
    # Positions among 100 outputs take 8 bits, among 1000 inputs 16.
    assert list(tensor.sparsity.traversalOrder) == [1, 0]
    (tensor,) = sparse_tensors(sparsify_flatbuffer(dense_file(kernel.T)))
    assert list(tensor.sparsity.traversalOrder) == [0, 1]


def test_size_is_that_of_the_positions_and_values(pruned, dense_file):
    kernel = pruned((200, 100), 0.9)
    content = dense_file(kernel)
    packed = sparsify_flatbuffer(content)
    nonzeros = np.count_nonzero(kernel)
    # 4 bytes per value, 1 per position, 2 per segment, and some tables.
    assert 0 < len(packed) - (len(content) - 4 * kernel.size + 5 * nonzeros + 2 * 101) < 500


@pytest.mark.parametrize("optimize_for", ["disk", "latency"])
def test_nothing_to_gain_returns_the_file_itself(optimize_for, pruned, dense_file):
    for kernel in (pruned((64, 64), 0.0), pruned((64, 64), 0.1), pruned((8, 8), 0.9)):
        content = dense_file(kernel)
        assert sparsify_flatbuffer(content, optimize_for) == content


def test_sparse_file_is_left_as_it_is(pruned, dense_file):
    packed = sparsify_flatbuffer(dense_file(pruned((64, 64), 0.9), pruned((64, 64), 0.95, 4)))
    assert len(sparse_tensors(packed)) == 2
    assert sparsify_flatbuffer(packed) == packed


def test_kernel_of_two_layers_is_stored_once(builder, pruned, assert_same_outputs):
    x = builder.tensor((1, 64))
    weights = builder.constant(pruned((64, 64), 0.9))
    y = builder.fully_connected(builder.fully_connected(x, weights), weights)
    content = builder.content([x], [y])
    packed = sparsify_flatbuffer(content)
    assert [name for name, _ in operators(packed)] == ["DENSIFY"] + 2 * ["FULLY_CONNECTED"]
    assert_same_outputs(packed, content, inputs_of((1, 64)))


def test_kernels_that_share_a_buffer_still_do(builder, pruned, assert_same_outputs):
    x = builder.tensor((1, 64))
    kernel = pruned((64, 64), 0.9)
    first = builder.constant(kernel)
    second = builder.tensor((64, 64), buffer=builder.graph.tensors[first].buffer)
    y = builder.fully_connected(builder.fully_connected(x, first), second)
    content = builder.content([x], [y])
    packed = sparsify_flatbuffer(content)
    sparse = sparse_tensors(packed)
    assert len(sparse) == 2 and sparse[0].buffer == sparse[1].buffer
    assert len(packed) < len(content) - 4 * kernel.size + 5 * np.count_nonzero(kernel) + 1500
    assert_same_outputs(packed, content, inputs_of((1, 64)))


def test_shared_buffer_of_different_shapes(builder, pruned, assert_same_outputs):
    kernel = pruned((64, 600), 0.9)
    x, other = builder.tensor((1, 600)), builder.tensor((1, 1200))
    first = builder.constant(kernel)
    second = builder.tensor((32, 1200), buffer=builder.graph.tensors[first].buffer)
    outputs = [builder.fully_connected(x, first), builder.fully_connected(other, second)]
    content = builder.content([x, other], outputs)
    packed = sparsify_flatbuffer(content)
    assert len(sparse_tensors(packed)) == 2
    assert_same_outputs(packed, content, inputs_of((1, 600)), inputs_of((1, 1200)))


def test_constant_that_is_looked_up_too_stays_dense(builder, pruned, assert_same_outputs):
    x, ids = builder.tensor((1, 64)), builder.tensor((3,), dtype="int32")
    weights = builder.constant(pruned((64, 64), 0.9))
    y, rows = builder.fully_connected(x, weights), builder.tensor((3, 64))
    builder.operator("GATHER", [weights, ids], [rows], ("GatherOptions", {}))
    content = builder.content([x, ids], [y, rows])
    assert sparsify_flatbuffer(content) == content


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "name, options", [("MUL", "MulOptions"), ("BATCH_MATMUL", "BatchMatMulOptions")]
)
def test_constant_of_another_operator_stays_dense(name, options, shared, builder, pruned):
    x, y = builder.tensor((64, 64)), builder.tensor((64, 64))
    weights = builder.constant(pruned((64, 64), 0.9))
    builder.operator(name, [x, weights], [y], (options, {}))
    outputs = [y, builder.fully_connected(x, weights)] if shared else [y]
    content = builder.content([x], outputs)
    assert sparsify_flatbuffer(content) == content


def test_constant_that_is_an_output_too_stays_dense(builder, pruned):
    x = builder.tensor((1, 64))
    weights = builder.constant(pruned((64, 64), 0.9))
    y = builder.fully_connected(x, weights)
    content = builder.content([x], [y, weights])
    assert sparsify_flatbuffer(content) == content


def test_dequantized_constant_that_is_an_output_too(builder, pruned, assert_same_outputs):
    x = builder.tensor((1, 64))
    weights = builder.constant(pruned((64, 64), 0.9).astype("float16"))
    unpacked = builder.tensor((64, 64))
    builder.operator("DEQUANTIZE", [weights], [unpacked], ("DequantizeOptions", {}))
    y = builder.fully_connected(x, unpacked)
    content = builder.content([x], [y, unpacked])
    packed = sparsify_flatbuffer(content)
    assert len(sparse_tensors(packed)) == 1
    # XNNPACK does not define that output of the dense-stored file.
    assert_same_outputs(packed, content, inputs_of((1, 64)), delegates=[False])


def test_weights_that_are_the_first_operand_stay_dense(builder, pruned):
    x = builder.tensor((64, 64))
    constant = builder.constant(pruned((64, 64), 0.9))
    y = builder.fully_connected(constant, x)
    content = builder.content([x], [y])
    assert sparsify_flatbuffer(content) == content


@pytest.mark.parametrize("content", [b"", b"no file at all", b"1234TFL3"])
def test_other_bytes_are_refused(content):
    with pytest.raises(ValueError, match="Argument `content` must be .*Received: "):
        sparsify_flatbuffer(content)


def test_truncated_file_is_refused(pruned, dense_file, quantize_file):
    content = quantize_file(dense_file(pruned((64, 64), 0.9)), "weight_int8")
    with pytest.raises(ValueError, match="Argument `content` must be a complete TFLite file"):
        sparsify_flatbuffer(content[:-1000])


@pytest.mark.parametrize("max_slowdown, is_sparse", [(1.5, False), (math.inf, True)])
def test_slow_form_is_taken_only_if_asked_for(
    max_slowdown, is_sparse, pruned, dense_file, quantize_file
):
    content = quantize_file(dense_file(pruned((256, 64), 0.5, block=16)), "dynamic_int8")
    packed = sparsify_flatbuffer(content, max_slowdown=max_slowdown)
    assert bool(sparse_tensors(packed)) == is_sparse


def test_small_gain_does_not_pay(pruned, dense_file):
    # At 24% zeros a plain encoding takes 5 bytes for 76% of the elements, 95% of all bytes.
    content = dense_file(pruned((256, 64), 0.24))
    assert sparsify_flatbuffer(content, max_slowdown=math.inf) == content


@pytest.mark.parametrize("max_slowdown", [0.5, math.nan, "2", None])
def test_wrong_slowdown(max_slowdown):
    with pytest.raises(ValueError, match="Argument `max_slowdown` must .*Received: max_slowdown="):
        sparsify_flatbuffer(b"", max_slowdown=max_slowdown)


def test_portable_files_have_rows_of_single_elements(pruned, dense_file, assert_same_outputs):
    content = dense_file(pruned((1000, 100), 0.9), pruned((100, 64), 0.95, block=4))
    packed = sparsify_flatbuffer(content, runtime="portable")
    tensors = sparse_tensors(packed)
    assert [list(t.sparsity.traversalOrder) for t in tensors] == [[0, 1]] * 2
    assert all(t.sparsity.blockMap is None or not len(t.sparsity.blockMap) for t in tensors)
    assert {version for _, version in operators(packed)} == {1}
    assert_same_outputs(packed, content, inputs_of((1, 1000)))


@pytest.fixture
def sixteen_bit_file(builder, pruned):
    """A dense layer with 16-bit activations and int8 weights, as int16x8 quantization makes it."""
    x = builder.tensor((1, 64), dtype="int16")
    kernel = (127 * pruned((64, 32), 0.95, block=16)).clip(-127, 127).astype("int8")
    weights = builder.constant(kernel.T.copy())
    bias = builder.constant(np.arange(32, dtype="int64"))
    y = builder.tensor((1, 32), dtype="int16")
    for index, scale in ((x, 1e-3), (weights, 1e-2), (bias, 1e-5), (y, 1e-2)):
        builder.graph.tensors[index].quantization = builder.schema.QuantizationParametersT(
            scale=[scale], zeroPoint=[0]
        )
    builder.operator("FULLY_CONNECTED", [x, weights, bias], [y], ("FullyConnectedOptions", {}))
    builder.model.operatorCodes[0].version = 4
    return builder.content([x], [y])


def test_weights_of_16_bit_activations_stay_dense(sixteen_bit_file):
    assert sparsify_flatbuffer(sixteen_bit_file, max_slowdown=math.inf) == sixteen_bit_file


def test_file_that_computes_something_else_is_refused(pruned, dense_file, monkeypatch):
    content = dense_file(pruned((64, 32), 0.9))

    def with_activation(*_):
        model = flatbuffer.read_model(content)
        model.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = 1
        return flatbuffer.write_model(model)

    monkeypatch.setattr("tf_lottery.export.sparse_flatbuffer.pack", with_activation)
    with pytest.raises(ExportError, match=r"not right: Output 0 differs \(default\) by"):
        sparsify_flatbuffer(content)


def test_file_that_does_not_run_here_is_left_as_it_is(builder, pruned):
    x, y = builder.tensor((1, 64)), builder.tensor((1, 64))
    builder.operator("CUSTOM", [x], [y])
    builder.model.operatorCodes[0].customCode = b"OfAnotherRuntime"
    z = builder.fully_connected(y, builder.constant(pruned((64, 64), 0.9)))
    content = builder.content([x], [z])
    with pytest.warns(UserWarning, match="left as it is: it does not run here"):
        assert sparsify_flatbuffer(content) == content


def test_file_that_runs_only_at_some_lengths(builder, pruned, recwarn):
    x = builder.tensor((1, 1))
    builder.graph.tensors[x].shapeSignature = [-1, -1]
    y = builder.fully_connected(x, builder.constant(pruned((32, 64), 0.9).T.copy()))
    content = builder.content([x], [y])
    assert len(sparse_tensors(sparsify_flatbuffer(content))) == 1
    assert not [warning for warning in recwarn if "left as it is" in str(warning.message)]


def test_differences_between_files():
    a = np.array([1.0, np.nan, 3.0], "float32")
    assert verification._difference(a, a) == 0.0
    assert verification._difference(a, a + np.float32(0.5)) == 0.5
    assert verification._difference(np.zeros(3), a) == np.inf
    assert verification._difference(np.zeros(2), np.zeros((1, 2))) == np.inf
    assert verification._largest(a) == 3.0


def test_all_signatures_are_kept_and_run(dense_file, pruned, convert_in_this_process):
    model = flatbuffer.read_model(dense_file(pruned((256, 32), 0.9)))
    model.subgraphs.append(copy.deepcopy(model.subgraphs[0]))
    model.signatureDefs.append(copy.deepcopy(model.signatureDefs[0]))
    model.signatureDefs[1].signatureKey, model.signatureDefs[1].subgraphIndex = b"second", 1
    content = flatbuffer.write_model(model)
    small = sparsify_flatbuffer(content)
    # The graphs share their weights, dense and sparse.
    assert len(sparse_tensors(small)) == 2 and len(small) < 0.3 * len(content)
    keys = [s.signatureKey for s in flatbuffer.read_model(small).signatureDefs]
    assert keys == [b"serving_default", b"second"]
    task = convert_in_this_process(verification.TASKS / "interpret.py")
    assert len(task.call("run_random", content=small, resolver="default")) == 4
