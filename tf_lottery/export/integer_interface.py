"""Gives an integer file uint8 inputs and outputs, as cameras and older programs have them."""

import copy

from tf_lottery.export import flatbuffer, flatbuffer_edits

# What unsigned bytes are above signed ones.
OFFSET = 128


def with_uint8(content):
    """Returns a file that takes and gives uint8 where `content` takes and gives int8.

    Args:
        content: Bytes of a file whose int8 inputs and outputs have a scale.
    """
    model = flatbuffer.read_model(content)
    graph = model.subgraphs[0]
    for position, index in enumerate(list(graph.inputs)):
        if _is_int8(graph, index):
            graph.inputs[position] = _add(model, index, is_input=True)
            _rename(model, "inputs", index, graph.inputs[position])
    for position, index in enumerate(list(graph.outputs)):
        if _is_int8(graph, index):
            graph.outputs[position] = _add(model, index, is_input=False)
            _rename(model, "outputs", index, graph.outputs[position])
    return flatbuffer.write_model(model)


def _is_int8(graph, index):
    tensor = graph.tensors[index]
    return flatbuffer.dtype_name(tensor) == "int8" and tensor.quantization is not None


def _add(model, index, is_input):
    """Adds a uint8 tensor and an operator between it and an int8 one; returns its index."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    tensor = copy.copy(graph.tensors[index])
    tensor.quantization = copy.copy(tensor.quantization)
    tensor.quantization.zeroPoint = [int(z) + OFFSET for z in tensor.quantization.zeroPoint]
    tensor.type = schema.TensorType.UINT8
    tensor.name = (tensor.name or b"") + b"_uint8"
    graph.tensors.append(tensor)
    new = len(graph.tensors) - 1
    operator = schema.OperatorT(
        opcodeIndex=flatbuffer_edits.operator_code(model, "QUANTIZE", 2),
        inputs=[new if is_input else index],
        outputs=[index if is_input else new],
        builtinOptionsType=schema.BuiltinOptions.QuantizeOptions,
        builtinOptions=schema.QuantizeOptionsT(),
    )
    graph.operators.insert(0 if is_input else len(graph.operators), operator)
    return new


def _rename(model, side, old, new):
    for signature in model.signatureDefs or []:
        for entry in getattr(signature, side) or []:
            if signature.subgraphIndex == 0 and entry.tensorIndex == old:
                entry.tensorIndex = new
