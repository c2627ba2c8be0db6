"""The constants of a TFLite file, as they are stored."""

import numpy as np


def lost_weights(content, dense_content):
    """Returns what is wrong if a file lacks weights of its dense-stored twin, else `None`.

    Args:
        content: Bytes of the file.
        dense_content: Bytes of the same model's file with all zeros stored.
    """
    # Examples do not show a lost weight whose input is zero in all of them.
    kept = [values for _, values in _constants(content)]
    dense = [values for _, values in _constants(dense_content)]
    lost = np.setdiff1d(np.concatenate([[0.0], *dense]), np.concatenate([[0.0], *kept]))
    return f"The file lacks {len(lost)} weights that are not zero." if len(lost) else None


def _constants(content):
    """Returns the size and the stored values of every floating-point constant of a file."""
    from ai_edge_litert import schema_py_generated as schema

    file = schema.Model.GetRootAs(content)
    dtypes = {schema.TensorType.FLOAT32: "float32", schema.TensorType.FLOAT16: "float16"}
    constants = {}
    for graph in map(file.Subgraphs, range(file.SubgraphsLength())):
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            buffer = file.Buffers(tensor.Buffer())
            if buffer.DataLength() and tensor.Type() in dtypes:
                values = buffer.DataAsNumpy().view(dtypes[tensor.Type()])
                # Equal constants share a buffer, which is counted once.
                constants[tensor.Buffer()] = int(np.prod(tensor.ShapeAsNumpy())), values
    return list(constants.values())


def stored_sparsity(content):
    """Returns the fraction of floating-point constants that a file leaves out.

    Args:
        content: Bytes of the file.
    """
    constants = _constants(content)
    total = sum(size for size, _ in constants)
    return 1.0 - sum(len(values) for _, values in constants) / total if total else 0.0
