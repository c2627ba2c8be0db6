"""Repairs what the quantizer gets wrong in fully integer files."""

import collections

import numpy as np

from tf_lottery.export import flatbuffer, flatbuffer_edits

# Layers, and which of their inputs are the activations, the weights and the optional bias.
LAYERS = {
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "FULLY_CONNECTED": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
}
# A bias is stored as a multiple of `input scale * weight scale`, of 64 bits if the activations
# have 16. A bias above the first number gets a new scale, at which its multiple is the second
# one: precise, and far from overflow, which kernels of 16-bit activations have at 2**47.
LARGEST_BIAS = {"int32": 2**30, "int64": 2**40}
NEW_BIAS = {"int32": 2**24, "int64": 2**32}


def mend(content, original):
    """Repairs the biases of dead units and the types of unread outputs.

    Pruning leaves some units with only zero weights. The quantizer gives these a tiny scale,
    at which the bias overflows and is clipped to almost nothing. It also leaves outputs of
    SPLIT that nothing reads in float32, and delegates then refuse the file.

    Args:
        content: Bytes of the integer file, weights stored dense.
        original: Bytes of the float32 file that it was made from.

    Returns:
        Bytes of the repaired file, or `content` itself if nothing is wrong with it.
    """
    model, biases = flatbuffer.read_model(content), _constants(original)
    mended = 0
    for graph in model.subgraphs:
        readers = collections.Counter(i for op in graph.operators for i in op.inputs)
        for operator in graph.operators:
            name = flatbuffer.operator_name(model, operator)
            if name in LAYERS and _has_bias(operator, LAYERS[name]):
                inputs, weights, bias = (operator.inputs[i] for i in LAYERS[name])
                # Weights that several layers share cannot be rescaled for one of them.
                if readers[weights] == readers[bias] == 1:
                    tensors = [graph.tensors[i] for i in (inputs, weights, bias)]
                    mended += _mend_bias(model, *tensors, biases)
            if name == "SPLIT":
                unread = [i for i in operator.outputs if not readers[i] and i not in graph.outputs]
                source = graph.tensors[operator.inputs[1]]
                mended += _mend_outputs(source, [graph.tensors[i] for i in unread])
    if not mended:
        return content
    flatbuffer_edits.drop_unused_buffers(model)
    return flatbuffer.write_model(model)


def _constants(content):
    model = flatbuffer.read_model(content)
    return {
        tensor.name: flatbuffer.stored_values(model, tensor)
        for graph in model.subgraphs
        for tensor in graph.tensors
    }


def _has_bias(operator, positions):
    bias = max(positions)
    return len(operator.inputs) > bias and operator.inputs[bias] >= 0


def _mend_bias(model, inputs, weights, bias, biases):
    dtype = flatbuffer.dtype_name(bias)
    if dtype not in LARGEST_BIAS:
        return False
    exact = biases.get(bias.name)
    scales = np.array(weights.quantization.scale, "float64")
    if exact is None or exact.shape != scales.shape:
        return False
    input_scale = float(inputs.quantization.scale[0])
    exact = exact.astype("float64")
    new_scales = np.abs(exact) / (NEW_BIAS[dtype] * input_scale)
    lost = np.abs(exact) > LARGEST_BIAS[dtype] * input_scale * scales
    new_scales = np.where(lost, new_scales, scales)
    stored = flatbuffer.stored_values(model, weights).reshape(weights.shape)
    axis = [1] * stored.ndim
    axis[weights.quantization.quantizedDimension] = -1
    stored = np.rint(stored * (scales / new_scales).reshape(axis)).astype("int8")
    old = flatbuffer.stored_values(model, bias)
    multiples = np.where(lost, np.rint(exact / (input_scale * new_scales)), old).astype(dtype)
    if lost.any():
        _replace(model, weights, stored, new_scales)
        _replace(model, bias, multiples, input_scale * new_scales)
    return lost.any()


def _replace(model, tensor, values, scales):
    tensor.buffer = flatbuffer_edits.add_buffer(model, values)
    tensor.quantization.scale = scales.astype("float32")


def _mend_outputs(source, outputs):
    floats = [t for t in outputs if t.type != source.type]
    for tensor in floats:
        tensor.type, tensor.quantization = source.type, source.quantization
    return len(floats)
