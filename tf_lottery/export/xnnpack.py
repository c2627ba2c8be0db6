"""Whether a network runs faster on phones and in browsers because it is sparse."""

import os
import pathlib

import keras

from tf_lottery.export import flatbuffer
from tf_lottery.export.inputs import make_inputs
from tf_lottery.export.sparse_flatbuffer import sparsify_flatbuffer
from tf_lottery.export.xnnpack_graph import read_nodes
from tf_lottery.export.xnnpack_layout import Layout
from tf_lottery.export.xnnpack_report import OperatorRow, SparseInferenceReport
from tf_lottery.export.xnnpack_rules import multiplies_pixels, role
from tf_lottery.model import SparseModel, strip

NO_END = "no `GlobalAveragePooling2D` or depth-to-space ends the part that fits"
MIXED_UP = "reads channels first, but what follows takes its output for channels last"


def sparse_inference_report(model_or_file, sample_inputs=None):
    """Says which operators XNNPACK's sparse kernels take, why not, and what to change.

    XNNPACK, the engine of LiteRT on CPUs, multiplies by sparse weights in 1x1 convolutions
    on ARM and WebAssembly, and nowhere else but in dense layers with blocks; on x86 it does
    so only without AVX. These kernels want channels first. So a network has to begin with a
    3x3 convolution of strides 2 from 3 channels, padded by 1 on every side, go on with
    depthwise convolutions padded alike, 1x1 convolutions with more than 2/3 of their
    weights zero, additions, multiplications and activations, and end in
    `GlobalAveragePooling2D` and `Dense`. Weights have to be stored sparse and computed with
    in float: float32, float16 or int8 storage of weights, but no int8 arithmetic.

    A network that keeps the rules only up to a point is worse off than one that never does:
    XNNPACK then switches a part to channels first and reads it as channels last. Such a file
    gives wrong numbers on a phone or does not load there, though it is right on a PC. The
    report says `"broken"`; store the weights of that network dense.

    Args:
        model_or_file: Path of a `.tflite` file, its bytes, or a `SparseModel` or built
            `keras.Model`, which is converted to float32 in memory and stored sparse.
        sample_inputs: Array with a few examples or a list or dict of them, for models that
            leave the shape of their inputs open. Defaults to `None`.

    Returns:
        A `SparseInferenceReport`.

    Raises:
        ValueError: If the argument is none of these or no TFLite file.
        OSError: If the file cannot be read.
        RuntimeError: If a model has to be converted and the backend is not TensorFlow.

    Example:

    >>> model = mobilenet_v1((96, 96, 3), symmetric_padding=False)
    >>> print(sparse_inference_report(tfl.sparsify(model, sparsity=0.9)).verdict)
    dense

    Reference:

    - [Fast Sparse ConvNets](https://arxiv.org/abs/1911.09723)
    - XNNPACK, `xnn_subgraph_rewrite_for_nchw` in `src/subgraph.c`; LiteRT's XNNPACK
      delegate, README, "Sparse Inference"
    """
    model = flatbuffer.read_model(_content(model_or_file, sample_inputs))
    nodes, outputs = read_nodes(model)
    rows, ends = [], []
    for part in sorted({node.part for node in nodes}):
        own = [node for node in nodes if node.part == part]
        if part < 0:
            rows += [_row(node, False, "is not run by XNNPACK", "") for node in own]
            continue
        part_rows, has_end = _part_rows(own, _part_outputs(own, nodes, outputs))
        rows += part_rows
        ends.append(has_end)
    notes = [] if any(ends) else [NO_END]
    return SparseInferenceReport(sorted(rows, key=lambda row: row.index), notes)


def _content(model_or_file, sample_inputs):
    if isinstance(model_or_file, (bytes, bytearray, memoryview)):
        return bytes(model_or_file)
    if isinstance(model_or_file, (str, os.PathLike)):
        return pathlib.Path(model_or_file).read_bytes()
    plain = model_or_file.model if isinstance(model_or_file, SparseModel) else model_or_file
    if not isinstance(plain, keras.Model) or not plain.built:
        raise ValueError(
            "Argument `model_or_file` must be the path or the bytes of a TFLite file, a "
            f"`SparseModel` or a built `keras.Model`. Received: {model_or_file!r}"
        )
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "`sparse_inference_report` needs Keras on TensorFlow to convert a model, as "
            "TFLite's converter does; it reads files on any backend. "
            f"Received: keras.backend.backend()={keras.backend.backend()!r}"
        )
    if isinstance(model_or_file, SparseModel):
        strip(model_or_file)
    return sparsify_flatbuffer(_convert(plain, sample_inputs))


def _convert(model, sample_inputs):
    """Returns the bytes of a model's dense-stored float32 file."""
    from tf_lottery.export import tflite

    inputs = make_inputs(model, sample_inputs, seed=0)
    with tflite._quiet_converter():
        names = list(tflite._keras_outputs(model, inputs))
        return tflite._convert(model, inputs, names, ["dense"])["dense"]


def _part_outputs(own, nodes, outputs):
    elsewhere = {t for node in nodes if node.part != own[0].part for t in node.inputs}
    return {t for node in own for t in node.outputs if t in elsewhere | outputs}


def _part_rows(nodes, outputs):
    """Returns the rows of one part of the graph and whether an operator can end it."""
    roles = [role(node) for node in nodes]
    layout = Layout(nodes, roles, outputs)
    is_stored_sparse = any(node.has_sparse_weights for node in nodes)
    rows = []
    for i, node in enumerate(nodes):
        taken = is_stored_sparse and i in layout.taken
        if taken and i in layout.wrong:
            rows.append(_row(node, True, *_mixed_up(i, nodes, roles), is_wrong=True))
        elif taken:
            rows.append(_row(node, True, "", ""))
        else:
            reason, advice = _why_not(i, nodes, roles, layout, is_stored_sparse)
            rows.append(_row(node, False, reason, advice, blocks=_blocks(i, nodes, roles)))
    return rows, layout.has_end


def _row(node, taken, reason, advice, is_wrong=False, blocks=False):
    counts = multiplies_pixels(node) and len(node.input_shape) == 4
    return OperatorRow(
        index=node.index,
        name=node.name,
        kind=node.kind,
        input_shape=node.input_shape,
        output_shape=node.output_shape,
        num_weights=node.weights_shape[0] * node.weights_shape[-1] if counts else 0,
        num_zeros=node.num_zeros if counts else 0,
        taken=taken,
        is_wrong=is_wrong,
        blocks=blocks,
        reason=reason,
        advice=advice,
    )


def _readers(position, nodes):
    return [i for i, node in enumerate(nodes) if {*nodes[position].outputs} & {*node.inputs}]


def _mixed_up(position, nodes, roles):
    if roles[position].leaves:
        return "reduces other axes than rows and columns", "Reduce rows and columns: axes 1 and 2."
    readers = _readers(position, nodes)
    if not readers:
        return MIXED_UP, "End every branch in `GlobalAveragePooling2D` and `Dense`."
    first = readers[0]
    return f"{MIXED_UP}: {_title(nodes[first])}", roles[first].advice


def _title(node):
    return f"{node.kind} {node.index}"


def _fits(role):
    return role.enters or role.inside


def _blocks(position, nodes, roles):
    """Returns whether a node that does not fit stands beside ones that do."""
    if _fits(roles[position]) or roles[position].leaves:
        return False
    before = {t for i, r in enumerate(roles) if _fits(r) for t in nodes[i].outputs}
    return bool(before & {*nodes[position].inputs}) or any(
        _fits(roles[i]) or roles[i].leaves for i in _readers(position, nodes)
    )


def _why_not(position, nodes, roles, layout, is_stored_sparse):
    own = roles[position]
    if own.reason:
        return own.reason, own.advice
    if position in layout.broken:
        sources = {i for t in nodes[position].inputs for i in [layout.producers.get(t)]}
        bad = [i for i in sources if i is not None and (i in layout.broken or not _fits(roles[i]))]
        return f"follows {_title(nodes[min(bad)])}" if bad else "reads an input directly", ""
    if not is_stored_sparse:
        return "the weights are stored dense", 'Export with `storage="sparse"`.'
    if not layout.has_end:
        return NO_END, "End in `GlobalAveragePooling2D` and `Dense`."
    if position in layout.misread:
        others = [i for i in _readers(position, nodes) if layout.leader(i) is None]
        names = ", ".join(_title(nodes[i]) for i in others) or "the network's output"
        return f"is read with channels last by {names}", ""
    if layout.leader(position) is None:
        return "belongs to a cluster that is also read with channels last", ""
    zeros, size = layout.zeros.get(layout.leader(position), (0, 0))
    if 3 * zeros > 2 * size:
        return "stays with channels last", ""
    return (
        f"{zeros:,} of {size:,} weights of the 1x1 convolutions around it are zero, "
        "not more than 2/3",
        "Prune the 1x1 convolutions to 70% or more.",
    )
