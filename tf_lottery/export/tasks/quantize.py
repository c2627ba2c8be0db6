"""Quantizes TFLite files; runs in a separate process, see `ChildProcess`."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.schema_py_generated import TensorType
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import quantizer, recipe

FLOAT16 = {
    "regex": ".*",
    "operation": "*",
    "algorithm_key": "float_casting",
    "op_config": {
        "weight_tensor_config": {
            "num_bits": 16,
            "symmetric": True,
            "granularity": "TENSORWISE",
            "dtype": "FLOAT",
        },
        "compute_precision": "FLOAT",
        "explicit_dequantize": True,
        "skip_checks": False,
    },
}
# Inputs and outputs of the file stay float32.
FLOAT_INTERFACE = [
    {"regex": ".*", "operation": kind, "algorithm_key": "no_quantize", "op_config": {}}
    for kind in ("INPUT", "OUTPUT")
]
# Slightly below the largest finite bfloat16, whose negative some models use as padding.
LARGEST = 3e38


def quantize(content, mode, steps=(), io_type="float32", given=None):
    """Returns the bytes of the quantized, dense-stored file.

    Args:
        content: Bytes of a float32 file.
        mode: String, a mode of `tf_lottery.export.quantization`.
        steps: List of dicts of names to arrays, the representative inputs of `"int8"`.
        io_type: `"float32"`, or `"int8"` for integer inputs and outputs of integer files.
        given: Dict of names of tensors to pairs of the smallest and largest value, to use
            instead of those measured on `steps`. Defaults to `None`.
    """
    recipes = {
        "float16": [FLOAT16],
        "weight_int8": recipe.weight_only_wi8_afp32(),
        "dynamic_int8": recipe.dynamic_wi8_afp32(),
        "int8": recipe.static_wi8_ai8(),
        "int16x8": recipe.static_wi8_ai16(),
    }
    if io_type == "float32" and mode in ("int8", "int16x8"):
        recipes[mode] += FLOAT_INTERFACE
    quantizing = quantizer.Quantizer(content, recipes[mode])
    ranges = _ranges(content, steps) if quantizing.need_calibration else None
    for name in (given or {}).keys() & (ranges or {}).keys():
        for side, limit in zip(("min", "max"), given[name], strict=True):
            ranges[name][side] = np.full_like(ranges[name][side], limit)
    result = quantizing.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _ranges(content, steps):
    """Returns the smallest and the largest value of every activation over all steps.

    The quantizer's own calibration takes moving averages over the steps, which clip rare values.
    It also runs a delegate, which does not compute outputs that nothing reads, such as one in
    the first step of an unrolled LSTM. Their ranges would then be missing.
    """
    interpreter = Interpreter(
        model_content=content,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    run = interpreter.get_signature_runner()
    model = flatbuffer_utils.read_model_from_bytearray(content)
    indices = [
        (tensor.name.decode(), index)
        for index, tensor in enumerate(model.subgraphs[0].tensors)
        if model.buffers[tensor.buffer].data is None and tensor.type == TensorType.FLOAT32
    ]
    ranges = {}
    for step in steps:
        run(**step)
        for name, index in indices:
            values = interpreter.get_tensor(index)
            # Larger magnitudes, infinity included, are padding.
            values = values[np.abs(values) < LARGEST]
            if values.size:
                shape = [1] * max(interpreter.get_tensor(index).ndim, 1)
                old = ranges.get(name, {"min": np.inf, "max": -np.inf})
                ranges[name] = {
                    "min": np.minimum(old["min"], values.min()).astype("float32").reshape(shape),
                    "max": np.maximum(old["max"], values.max()).astype("float32").reshape(shape),
                }
    return ranges
