"""Checks files for TFLite Micro, the interpreter of microcontrollers."""

import dataclasses
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
# LiteRT's reference kernels round `sum * scale` once, to a step of the output. TFLite Micro's
# round the product to 32 bits first, and then to a step. Integer arithmetic in NumPy gives either
# result bit by bit. They differ by a step where the sum is near a half, and layers that follow a
# narrow one amplify a step, in all outputs of an example: in 1.2% of those of MLPerf Tiny's
# autoencoder with blocks of zeros. So few outputs may differ by several steps. In a file that is
# read wrong, most do, by many.
MAX_STEPS, MAX_FRACTION = 4, 0.05


@dataclasses.dataclass(frozen=True)
class MicroRun:
    """A run in TFLite Micro's interpreter.

    Args:
        arena_bytes: Integer, the memory that the file needs on a device besides its own bytes,
            or `None` if it did not run. Defaults to `None`.
        steps: Integer, the largest difference from LiteRT's reference kernels in an output,
            in steps of its scale, or `None`. Defaults to `None`.
    """

    arena_bytes: int | None = None
    steps: int | None = None


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


def check(content, inputs, process):
    """Runs a file in TFLite Micro and compares it with LiteRT's reference kernels.

    Args:
        content: Bytes of the file.
        inputs: `Inputs`.
        process: The process of `verification.interpreter_process`.

    Returns:
        A `MicroRun`, empty if TFLite Micro's interpreter is not installed.

    Raises:
        ExportError: If it lacks an operator, or its outputs differ by more than rounding.
    """
    problem, run = find_problem(content), MicroRun()
    if not problem and is_installed():
        try:
            problem, run = _run(content, inputs, process)
        except ChildError as error:
            problem = f"TFLite Micro does not run it: {error}"
    if problem:
        raise ExportError(
            f"The file is not fit for a microcontroller: {problem} Nothing was written. "
            "Received: runtime='micro'"
        )
    return run


def _run(content, inputs, process):
    steps, expected = process.call("run_encoded", content=content, steps=list(inputs.steps()))
    with ChildProcess(TASKS / "micro.py") as child:
        outputs, arena_bytes = child.call("run", content=content, steps=steps)
    largest = 0
    for number, (arrays, references) in enumerate(
        zip(zip(*outputs, strict=True), zip(*expected, strict=True), strict=True)
    ):
        a, b = np.stack(arrays).astype("int64"), np.stack(references).astype("int64")
        differences = np.abs(a - b)
        largest = max(largest, int(differences.max(initial=0)))
        fraction = np.mean(differences > 1) if differences.size else 0.0
        if largest > MAX_STEPS or fraction > MAX_FRACTION:
            problem = (
                f"output {number} differs from LiteRT's by up to {largest} steps, and by more than "
                f"one in {fraction:.1%} of its elements."
            )
            return problem, MicroRun()
    return "", MicroRun(arena_bytes, largest)
