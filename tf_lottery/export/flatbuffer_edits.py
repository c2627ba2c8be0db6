"""Changes TFLite files that are read as objects: adds to them, and drops what nothing refers to."""

import numpy as np


def operator_code(model, name, version):
    """Returns the index of an operator code, and adds the code if the file lacks it.

    Args:
        model: A `ModelT`.
        name: String, the schema's name.
        version: Integer, of the operator.
    """
    from ai_edge_litert import schema_py_generated as schema

    code = getattr(schema.BuiltinOperator, name)
    for index, entry in enumerate(model.operatorCodes):
        if (entry.builtinCode, entry.version) == (code, version):
            return index
    entry = schema.OperatorCodeT(
        # Old runtimes read this one-byte field; newer codes do not fit into it.
        deprecatedBuiltinCode=min(code, 127),
        builtinCode=code,
        version=version,
    )
    model.operatorCodes.append(entry)
    return len(model.operatorCodes) - 1


def add_buffer(model, values):
    """Adds a constant's values to a file and returns the index of their buffer.

    Args:
        model: A `ModelT`.
        values: NumPy array.
    """
    from ai_edge_litert import schema_py_generated as schema

    data = np.ascontiguousarray(values).reshape(-1).view("uint8")
    model.buffers.append(schema.BufferT(data=data))
    return len(model.buffers) - 1


def drop_unused_buffers(model):
    """Empties the buffers that neither tensors nor metadata refer to.

    Args:
        model: A `ModelT`.
    """
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used.update(entry.buffer for entry in model.metadata or [])
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None


def drop_unused_tensors(model):
    """Removes the tensors of the main graph, and kinds of operators, that nothing refers to.

    Args:
        model: A `ModelT`.
    """
    graph = model.subgraphs[0]
    entries = [
        entry
        for signature in model.signatureDefs or []
        if signature.subgraphIndex == 0
        for entry in (*signature.inputs, *signature.outputs)
    ]
    used = {i for operator in graph.operators for i in (*operator.inputs, *operator.outputs)}
    used.update((*graph.inputs, *graph.outputs), (entry.tensorIndex for entry in entries))
    new = {old: i for i, old in enumerate(i for i in range(len(graph.tensors)) if i in used)}
    # An input that is left out has the index -1.
    for holder in (graph, *graph.operators):
        holder.inputs = [new.get(i, i) for i in holder.inputs]
        holder.outputs = [new[i] for i in holder.outputs]
    for entry in entries:
        entry.tensorIndex = new[entry.tensorIndex]
    graph.tensors = [graph.tensors[i] for i in new]
    _drop_unused_codes(model)
    drop_unused_buffers(model)


def _drop_unused_codes(model):
    operators = [operator for graph in model.subgraphs for operator in graph.operators]
    used = sorted({operator.opcodeIndex for operator in operators})
    for operator in operators:
        operator.opcodeIndex = used.index(operator.opcodeIndex)
    model.operatorCodes = [model.operatorCodes[i] for i in used]
