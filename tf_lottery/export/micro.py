"""Checks files for TFLite Micro, the interpreter of microcontrollers."""

import importlib.util

import numpy as np

from tf_lottery.export import flatbuffer
from tf_lottery.export.child_process import TASKS, ChildError, ChildProcess
from tf_lottery.export.errors import ExportError

# Operators that TFLite Micro implements, found by loading a file of each in `tflite-micro`
# 0.dev20261023. It has no DENSIFY, and multiplies by sparse weights as if they were dense.
_OPERATORS = """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND
    BROADCAST_ARGS BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM
    DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP
    EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER
    GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG
    LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM
    MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX
    REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT
    SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE
    SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE TRANSPOSE_CONV
    UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE"""
OPERATORS = frozenset(_OPERATORS.split())


def is_installed():
    """Returns whether TFLite Micro's interpreter (`pip install tflite-micro`) is there."""
    return importlib.util.find_spec("tflite_micro") is not None


def find_problem(content):
    """Returns why TFLite Micro cannot run a file, or `""`, without running it.

    Args:
        content: Bytes of the file.
    """
    model = flatbuffer.read_model(content)
    names = {
        flatbuffer.operator_name(model, operator)
        for graph in model.subgraphs
        for operator in graph.operators
    }
    missing = sorted(names - OPERATORS)
    if missing:
        return f"TFLite Micro has no operators {', '.join(missing)}."
    if any(tensor.sparsity is not None for g in model.subgraphs for tensor in g.tensors):
        return "TFLite Micro reads sparse weights as if they were dense."
    return ""


def check(content, inputs):
    """Runs a file in TFLite Micro and compares it with LiteRT's reference kernels.

    Args:
        content: Bytes of the file.
        inputs: `Inputs`.

    Returns:
        Integer, the bytes of the arena that the file needs on a device, or `None` if TFLite
        Micro's interpreter is not installed.

    Raises:
        ExportError: If it lacks an operator, or an output differs by more than one step.
    """
    problem, arena_bytes = find_problem(content), None
    if not problem and is_installed():
        try:
            problem, arena_bytes = _run(content, inputs)
        except ChildError as error:
            problem = f"TFLite Micro does not run it: {error}"
    if problem:
        raise ExportError(
            f"The file is not fit for a microcontroller: {problem} Nothing was written. "
            "Received: runtime='micro'"
        )
    return arena_bytes


def _run(content, inputs):
    with ChildProcess(TASKS / "interpret.py") as child:
        steps, expected = child.call("run_encoded", content=content, steps=list(inputs.steps()))
    with ChildProcess(TASKS / "micro.py") as child:
        outputs, arena_bytes = child.call("run", content=content, steps=steps)
    for step, expected_step in zip(outputs, expected, strict=True):
        for number, (a, b) in enumerate(zip(step, expected_step, strict=True)):
            difference = np.max(np.abs(a.astype("float64") - b.astype("float64")), initial=0.0)
            allowed = 1 if b.dtype.kind in "iu" else 1e-5 * np.max(np.abs(b), initial=1e-6)
            if a.shape != b.shape or not difference <= allowed:
                return f"output {number} differs from LiteRT by {difference:.3g}.", arena_bytes
    return "", arena_bytes
