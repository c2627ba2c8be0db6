"""Stores the pruned weights of a TFLite file in a sparse format.

The converter has a flag for this, but it computes wrong numbers if the block size does not
divide the width of a layer. With float16 and int8 it makes files that give NaN or do not load.
This module rewrites the dense-stored file instead. It uses only two forms, which the runtime
reads correctly:

- *unpacked*: a `DENSIFY` operator unpacks the weights once, when the file is loaded. The
  outputs are then bit-identical to those of the dense-stored file.
- *direct*: a `FULLY_CONNECTED` operator of version 8 multiplies by the sparse weights
  without unpacking them, in blocks of 1x4 in float32 and of 1x16 in int8.
"""

import copy
import os
import warnings

from tf_lottery.checks import choice
from tf_lottery.export import flatbuffer, flatbuffer_edits
from tf_lottery.export.errors import ExportError
from tf_lottery.export.sparse_encoding import to_parameters
from tf_lottery.export.sparse_forms import MAX_SLOWDOWN, best_form, check_slowdown
from tf_lottery.export.verification import compare_files
from tf_lottery.export.weights import find_weights

# The version of FULLY_CONNECTED whose weights may be sparse. Delegates do not take it.
DIRECT_VERSION = 8


def sparsify_flatbuffer(
    content: bytes | str | os.PathLike,
    optimize_for: str = "disk",
    *,
    runtime: str = "litert",
    max_slowdown: float = MAX_SLOWDOWN,
) -> bytes:
    """Returns a TFLite file with its pruned weights stored sparse.

    Each kernel of a dense, convolutional or recurrent layer is stored in its smallest form. It
    stays dense if no sparse form saves a tenth of its bytes, so the file never grows. Bytes
    behind the flatbuffer, such as the files of its metadata, are kept. Before the new file is
    returned, it runs in a separate process on random inputs, with and without delegates, and
    its outputs are compared with those of `content`.

    Args:
        content: Bytes of a dense-stored file, float or quantized to int8, or its path.
        optimize_for: `"disk"` chooses the smallest form of each constant. `"latency"` chooses
            the form that is expected to run fastest on a CPU, and the smallest among equally
            fast ones. Defaults to `"disk"`.
        runtime: `"litert"`, or `"portable"` for the one sparse form that other runtimes such as
            OpenVINO read too: rows of single elements (CSR), unpacked when the file is loaded.
            Defaults to `"litert"`.
        max_slowdown: Float of 1 or more. `"disk"` takes no form whose layer is expected to run
            longer than this times the dense one. Pass `math.inf` for the smallest file at any
            cost. Defaults to `1.5`.

    Returns:
        Bytes of the new file, or those of `content` if nothing gets smaller. They are also
        returned, with a warning, if no interpreter here runs the file, for lack of its operators.

    Raises:
        OSError: If there is no file at the path.
        ValueError: If `content` is not a TFLite file or an argument is none of the above.
        ExportError: If the new file computes something else. It is a `RuntimeError`.

    Example:

    >>> written = tfl.export_tflite(sparse, "dense.tflite", storage="dense", runs=1)
    >>> small = sparsify_flatbuffer("dense.tflite")
    """
    choice("optimize_for", optimize_for, ("disk", "latency"))
    choice("runtime", runtime, ("litert", "portable"))
    check_slowdown(max_slowdown)
    given = flatbuffer.read_content(content, "content")
    packed = pack(given, optimize_for, runtime, max_slowdown)
    if packed == given:
        return given
    comparison = compare_files(packed, given)
    if comparison.problem:
        raise ExportError(
            f"The file with sparse weights is not right: {comparison.problem} Nothing was made. "
            f"Received: optimize_for={optimize_for!r}, runtime={runtime!r}"
        )
    if not comparison.has_run:
        warnings.warn(
            "The file was left as it is: it does not run here, so that a file with sparse "
            f"weights cannot be compared with it: {comparison.reason}",
            stacklevel=2,
        )
        return given
    return packed


def pack(content, optimize_for="disk", runtime="litert", max_slowdown=MAX_SLOWDOWN):
    """Returns what `sparsify_flatbuffer` returns, but does not run it.

    Args:
        content: Bytes of a dense-stored file.
        optimize_for: String, one of `sparse_forms.GOALS`. Defaults to `"disk"`.
        runtime: String, as in `sparsify_flatbuffer`. Defaults to `"litert"`.
        max_slowdown: Float, as in `sparsify_flatbuffer`. Defaults to `1.5`.
    """
    model = flatbuffer.read_model(content)
    buffers = {}
    for graph in model.subgraphs:
        for weights in find_weights(model, graph):
            form = best_form(weights, optimize_for, runtime, max_slowdown)
            if form is not None:
                # Constants that shared a dense buffer share a sparse one, if shape and type are
                # equal too: otherwise the same bytes have other rows, columns or zeros.
                encoding, array = form.encoding, weights.array
                layout = array.shape, array.dtype.name, encoding.order, encoding.block
                key = graph.tensors[weights.index].buffer, layout
                if key not in buffers:
                    buffers[key] = flatbuffer_edits.add_buffer(model, encoding.values)
                _store(model, graph, weights, form, buffers[key])
    flatbuffer_edits.drop_unused_buffers(model)
    smaller = flatbuffer.write_model(model) if buffers else content
    return bytes(min(smaller, content, key=len))


def _store(model, graph, weights, form, buffer):
    tensor = graph.tensors[weights.index]
    sparse = tensor if form.is_direct else copy.copy(tensor)
    if form.is_direct:
        for operator in weights.readers:
            operator.opcodeIndex = flatbuffer_edits.operator_code(
                model, "FULLY_CONNECTED", DIRECT_VERSION
            )
    else:
        _unpack_at_load(model, graph, weights.index, sparse)
    sparse.sparsity = to_parameters(form.encoding)
    sparse.buffer = buffer


def _unpack_at_load(model, graph, index, sparse):
    """Adds a DENSIFY operator that computes the tensor at `index` from a new one, `sparse`."""
    from ai_edge_litert import schema_py_generated as schema

    sparse.name = f"sparse_{len(graph.tensors)}".encode()
    # Only the unpacked tensor needs the scales.
    sparse.quantization = None
    graph.tensors.append(sparse)
    graph.tensors[index].buffer = 0
    operator = schema.OperatorT(
        opcodeIndex=flatbuffer_edits.operator_code(model, "DENSIFY", 1),
        inputs=[len(graph.tensors) - 1],
        outputs=[index],
        builtinOptionsType=schema.BuiltinOptions.DensifyOptions,
        builtinOptions=schema.DensifyOptionsT(),
    )
    first = next(i for i, other in enumerate(graph.operators) if index in other.inputs)
    graph.operators.insert(first, operator)
