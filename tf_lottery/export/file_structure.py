"""Finds what is broken in a TFLite file: references to things that the file does not have."""

from tf_lottery.export import sparse_encoding

OPTIONAL = -1
# Bytes of the values that can be sparse.
SIZES = {"FLOAT32": 4, "FLOAT16": 2, "INT16": 2, "INT32": 4}
# Operators that compute nothing without these: how many inputs, and options of their own.
NEEDS_OPTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "SUM")
IMAGES = ("CONV_2D", "DEPTHWISE_CONV_2D")
NUM_INPUTS = {
    "ADD": 2,
    "CONV_2D": 2,
    "CONV_3D": 2,
    "CONV_3D_TRANSPOSE": 3,
    "DENSIFY": 1,
    "DEPTHWISE_CONV_2D": 2,
    "DEQUANTIZE": 1,
    "FULLY_CONNECTED": 2,
    "MEAN": 2,
    "MUL": 2,
    "PAD": 2,
    "QUANTIZE": 1,
    "SPLIT": 2,
    "SUM": 2,
    "TRANSPOSE_CONV": 3,
}


def fill_absent_lists(model):
    """Replaces the lists that a file leaves out by empty ones.

    Args:
        model: A `ModelT`, as the schema's generated code reads it.
    """
    model.operatorCodes = model.operatorCodes or []
    for graph in model.subgraphs or []:
        _fill(graph, "tensors", "operators", "inputs", "outputs")
        for operator in graph.operators:
            _fill(operator, "inputs", "outputs")


def _fill(holder, *names):
    for name in names:
        if getattr(holder, name) is None:
            setattr(holder, name, [])


def find_problem(model):
    """Returns what is broken in a file, or `""`.

    Args:
        model: A `ModelT` without absent lists.
    """
    if model.buffers is None or not model.subgraphs:
        return "it has no graph or no buffers"
    for number, graph in enumerate(model.subgraphs):
        problem = _graph_problem(model, graph)
        if problem:
            return f"graph {number}: {problem}"
    return _reference_problem(model)


def _graph_problem(model, graph):
    for index, tensor in enumerate(graph.tensors):
        problem = _tensor_problem(model, tensor)
        if problem:
            return f"tensor {index} {problem}"
    for index, operator in enumerate(graph.operators):
        problem = _operator_problem(model, graph, operator)
        if problem:
            return f"operator {index} {problem}"
    if not _within([*graph.inputs, *graph.outputs], 0, len(graph.tensors)):
        return f"its inputs or outputs are none of its {len(graph.tensors)} tensors"
    return ""


def _tensor_problem(model, tensor):
    from ai_edge_litert import schema_py_generated as schema

    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    if min(shape, default=0) < -1:
        return f"has the shape {shape}"
    names = {number: name for name, number in vars(schema.TensorType).items()}
    if tensor.type not in names:
        return f"has an unknown data type, {tensor.type}"
    if not 0 <= tensor.buffer < len(model.buffers):
        return f"refers to buffer {tensor.buffer} of {len(model.buffers)}"
    if tensor.sparsity is not None:
        buffer = model.buffers[tensor.buffer]
        # Large weights lie behind the flatbuffer, and others in the buffer itself.
        num_bytes = buffer.size or (0 if buffer.data is None else len(buffer.data))
        num_values = num_bytes // SIZES.get(names[tensor.type], 1)
        return sparse_encoding.find_problem(tensor.sparsity, shape, num_values)
    return ""


def _operator_problem(model, graph, operator):
    from ai_edge_litert.tools import flatbuffer_utils

    num_tensors = len(graph.tensors)
    for name in ("inputs", "outputs"):
        tensors = getattr(operator, name)
        if not _within(tensors, OPTIONAL, num_tensors):
            return f"refers to tensors {[int(t) for t in tensors]} of {num_tensors}"
    if not 0 <= operator.opcodeIndex < len(model.operatorCodes):
        return f"is of kind {operator.opcodeIndex} of {len(model.operatorCodes)}"
    name = flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)
    if name is None:
        return "is of a kind that the schema does not know"
    needed = NUM_INPUTS.get(name, 0)
    # Only the bias, behind the inputs that every layer needs, may be absent.
    if needed and (len(operator.inputs) < needed or min(operator.inputs[:needed]) < 0):
        return f"({name}) lacks inputs"
    if needed and (not len(operator.outputs) or min(operator.outputs) < 0):
        return f"({name}) lacks an output"
    if name in NEEDS_OPTIONS and operator.builtinOptions is None:
        return f"({name}) lacks its options"
    shapes = [graph.tensors[t].shape for t in operator.inputs[:needed]]
    if name in IMAGES and any(shape is None or len(shape) != 4 for shape in shapes):
        return f"({name}) has operands that are no images"
    return ""


def _reference_problem(model):
    for entry in model.metadata or []:
        if not 0 <= entry.buffer < len(model.buffers):
            return f"its metadata refers to buffer {entry.buffer} of {len(model.buffers)}"
    for signature in model.signatureDefs or []:
        if not 0 <= signature.subgraphIndex < len(model.subgraphs):
            return f"a signature is of graph {signature.subgraphIndex} of {len(model.subgraphs)}"
        num_tensors = len(model.subgraphs[signature.subgraphIndex].tensors)
        entries = [*(signature.inputs or []), *(signature.outputs or [])]
        if not _within([entry.tensorIndex for entry in entries], 0, num_tensors):
            return f"a signature names tensors that are none of the graph's {num_tensors}"
    return ""


def _within(numbers, low, end):
    return all(low <= number < end for number in numbers)
